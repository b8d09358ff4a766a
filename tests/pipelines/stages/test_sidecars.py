"""Nothing that rides along with an object is lost in silence."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import modalities
from modalities.base import BadSample, Modality, Raw
from pipelines.stages import facts, process
from pipelines.stages.process import Look, Sample

WORDS = {"txt": b"a dog\n", "json": b'{"a": 1}', "boxes.json": b"[]", "meta.json": b'{"mine": true}'}
RESIZE = [{"kind": "transform", "how": "resize", "options": {"shorter": 16}}]
TILES = [{"kind": "cut", "how": "tiles", "options": {"size": 7}}]


def built(kind: Modality, raw: Raw, sidecars: dict[str, bytes], stages: list[dict[str, Any]]) -> list[Sample]:
    look = Look(raw=raw, sidecars=sidecars, label="dog", caption="a dog")
    found = list(process.examine(look, kind, stages))
    pieces = [piece for piece in found if isinstance(piece, Sample)]
    out = [
        process.build(look, kind, stages, meta=kind.probe(raw), spec=p.spec, suffix=p.suffix) for p in pieces
    ]
    samples = [sample for sample in out if isinstance(sample, Sample)]
    assert len(samples) == len(found) > 0
    return samples


def png(values: np.ndarray[Any, Any]) -> bytes:
    Image.fromarray(values).save(out := io.BytesIO(), "PNG")
    return out.getvalue()


def photo() -> tuple[Raw, bytes]:
    values = np.arange(40 * 30 * 3, dtype=np.uint8).reshape(40, 30, 3)
    return Raw(name="a.png", content=png(values)), png(values[..., 0] // 64)


def test_what_passes_keeps_every_byte() -> None:
    raw, mask = photo()
    sidecars = {**WORDS, "seg.png": mask, "depth.npy": b"\x93NUMPY?"}
    [sample] = built(modalities.get("image"), raw, {**sidecars, "cls": b"3"}, [])
    assert sample.files == {"png": raw.content, **sidecars}
    assert "left_behind" not in sample.meta


def test_a_changed_picture_keeps_its_words_and_its_mask_and_names_the_rest() -> None:
    kind = modalities.get("image")
    raw, mask = photo()
    [sample] = built(kind, raw, {**WORDS, "seg.png": mask, "depth.npy": b"x", "cls": b"3"}, RESIZE)
    assert {name: sample.files[name] for name in WORDS} == WORDS
    assert sample.files.keys() == {*WORDS, "png", "seg.png"}
    arrays = kind.decode(sample.files)
    assert arrays["segmentation"].shape == arrays["image"].shape[:2] == (21, 16)
    assert sample.meta["left_behind"] == ["depth.npy"]
    assert (sample.label, sample.caption) == ("dog", "a dog")


def scenes(folder: Path) -> list[tuple[str, Raw, bytes, np.ndarray[Any, Any]]]:
    """The same cube of 13 x 10 pixels with its mask, as a file and as a Zarr folder."""
    import zarr

    cube = np.arange(13 * 10 * 4, dtype=np.float32).reshape(13, 10, 4)
    labels = np.arange(130, dtype=np.uint8).reshape(13, 10)
    np.save(out := io.BytesIO(), cube)
    array = zarr.create_array(folder / "s.zarr", name="cube", shape=cube.shape, chunks=(5, 5, 4), dtype="f4")
    array[:] = cube
    paths = [path for path in folder.rglob("*") if path.is_file()]
    inside = {path.relative_to(folder / "s.zarr").as_posix(): path.read_bytes() for path in paths}
    return [
        ("npy", Raw(name="s.npy", content=out.getvalue()), png(labels), labels),
        ("zarr", Raw(name="s.zarr/", content=b"", companions=inside), png(labels), labels),
    ]


@pytest.mark.parametrize("which", [0, 1], ids=["npy", "zarr"])
def test_a_mask_is_cut_with_its_raster(which: int, tmp_path: Path) -> None:
    kind = modalities.get("hyperspectral")
    _, raw, mask, labels = scenes(tmp_path)[which]
    samples = built(kind, raw, {**WORDS, "seg.png": mask, "preview.jpg": b"x"}, TILES)
    assert len(samples) == 4
    for sample in samples:
        assert {name: sample.files[name] for name in WORDS} == WORDS
        assert sample.meta["left_behind"] == ["preview.jpg"]
        place = sample.meta["piece"]
        window = np.s_[place["y"] : place["y"] + place["height"], place["x"] : place["x"] + place["width"]]
        assert np.array_equal(kind.decode(sample.files)["segmentation"], labels[window])


@pytest.mark.parametrize("which", [0, 1], ids=["npy", "zarr"])
def test_a_mask_beside_a_raster_that_passes_is_decoded_with_it(which: int, tmp_path: Path) -> None:
    kind = modalities.get("hyperspectral")
    _, raw, mask, labels = scenes(tmp_path)[which]
    [sample] = built(kind, raw, {"seg.png": mask}, [])
    assert sample.files["seg.png"] == mask
    assert np.array_equal(kind.decode(sample.files)["segmentation"], labels)


@pytest.mark.parametrize(
    ("modality", "stages"),
    [
        ("video", [{"kind": "cut", "how": "clips", "options": {"seconds": 0.2}}]),
        ("pointcloud", [{"kind": "cut", "how": "tiles", "options": {"size": 5.0}}]),
        ("video", [*([{"kind": "cut", "how": "clips", "options": {"seconds": 0.2}}]), *RESIZE]),
    ],
)
def test_pieces_get_the_words_and_say_what_they_do_not_get(
    modality: str, stages: list[dict[str, Any]]
) -> None:
    kind = modalities.get(modality)
    files = {name: data for name, data in kind.synth(1).items() if name != "cls"}
    raw = process.as_raw(files, kind)
    _, mask = photo()
    samples = built(kind, raw, {**WORDS, "seg.png": mask, "pose.bin": b"x"}, stages)
    assert len(samples) > 1
    for sample in samples:
        assert {name: sample.files[name] for name in WORDS} == WORDS
        assert sample.meta["left_behind"] == ["pose.bin", "seg.png"]
        assert {"clip.json", "tile.json"} & sample.files.keys()


def test_two_files_of_one_name_are_refused_rather_than_one_lost() -> None:
    Image.new("RGB", (8, 8)).save(one := io.BytesIO(), "JPEG")
    look = Look(raw=Raw(name="a.jpeg", content=one.getvalue()), sidecars={"jpg": b"another"})
    kind = modalities.get("image")
    with pytest.raises(BadSample, match=r"name-clash: the object is stored as \.jpg"):
        process.build(look, kind, [], meta=kind.probe(look.raw))


OURS = {"modality": "image", "source": "a/b.jpg", "meta": {"width": 3, "piece": {"y": 4}}, "group": "a/b"}


def test_the_facts_of_an_earlier_ingest_are_known_and_carried_on() -> None:
    files = {"meta.json": json.dumps(OURS).encode(), "jpg": b""}
    assert facts.scene(files) == "a/b"
    assert facts.class_name(files) is None
    assert facts.class_name({"meta.json": json.dumps({**OURS, "label": "cat"}).encode()}) == "cat"
    assert facts.before(files) == {"before": {"source": "a/b.jpg", "piece": {"y": 4}}}
    assert facts.member(["jpg"]) == "meta.json"
    again = {**OURS, "meta": {}, **facts.before(files)}
    assert facts.before({"meta.json": json.dumps(again).encode()}) == {
        "before": {"source": "a/b.jpg", "before": {"source": "a/b.jpg", "piece": {"y": 4}}}
    }


@pytest.mark.parametrize(
    "mine",
    [
        b"", b"[]", b"\xff", b'{"source": "x"}', b"[" * 100_000,
        json.dumps({**OURS, "more": 1}).encode(), json.dumps({**OURS, "meta": 3}).encode(),
    ],
    ids=lambda content: repr(content[:20]),
)  # fmt: skip
def test_a_meta_json_of_the_users_own_stays_and_ours_lies_beside_it(mine: bytes) -> None:
    files = {"meta.json": mine, "jpg": b""}
    assert (facts.scene(files), facts.before(files), facts.member(files)) == (None, {}, "rayloom.json")
    both = {**files, "rayloom.json": json.dumps(OURS).encode()}
    assert facts.scene(both) == "a/b"
    with pytest.raises(BadSample, match="name-clash"):
        facts.member(both)


@pytest.mark.parametrize("group", [None, "", 3, "x" * 5000])
def test_a_strange_scene_is_none(group: Any) -> None:
    assert facts.scene({"meta.json": json.dumps({**OURS, "group": group}).encode()}) is None
