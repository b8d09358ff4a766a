"""The survey says the same with and without the sandbox, and one bad object is one row."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

import modalities
from modalities.base import BadSample, Raw
from pipelines.shards.plan import SURVEY
from pipelines.sources import Entry, list_source, open_entry
from pipelines.stages import process
from pipelines.stages.process import Look
from pipelines.stages.sandbox import Sandbox, SandboxError
from pipelines.stages.survey import BATCH_ENTRIES, HEAD_BYTES, examined, survey_entries


def entries(modality: str, folder: Path) -> list[Entry]:
    source = SimpleNamespace(
        uri=str(folder), synth=None, seed=0, labels="none", glob=None, uri_column="uri",
        label_column="label", caption_column="caption",
    )  # fmt: skip
    return list(list_source(source, modalities.get(modality)))


def told(rows: list[dict[str, Any]]) -> str:
    """Every value, NaN included, with the floats as they are."""
    return repr([sorted(row.items()) for row in rows])


def test_of_what_is_broken_the_first_bytes_are_kept_and_no_more(tmp_path: Path) -> None:
    broken = b"\x89PNG\r\n\x1a\n" + bytes(range(250)) * 100
    (tmp_path / "long.png").write_bytes(broken)
    (tmp_path / "short.png").write_bytes(broken[:100])
    rows = survey_entries(entries("image", tmp_path), modalities.get("image"), [], sandbox=False)
    assert [row["status"] for row in rows] == ["quarantined"] * 2
    assert {row["name"]: row["head"] for row in rows} == {
        "long.png": broken[:HEAD_BYTES], "short.png": broken[:100]
    }  # fmt: skip
    assert HEAD_BYTES == 4096


FILES = [
    ("image", "images", "*.JPEG"),
    ("video", "video", "rotated_180.mov"),
    ("pointcloud", "points", "simple*"),
    ("hyperspectral", "hyperspectral", "*"),
    ("lighting", "lighting", "**/*"),
    ("image", "hostile", "*"),
    ("video", "hostile", "*"),
]


@pytest.mark.parametrize(("modality", "folder", "glob"), FILES)
def test_real_files_are_described_the_same_inside_and_outside(
    shared_data: Path, tmp_path: Path, modality: str, folder: str, glob: str
) -> None:
    for path in sorted((shared_data / folder).glob(glob))[: BATCH_ENTRIES + 4]:
        if path.is_file():
            copy = tmp_path / path.relative_to(shared_data / folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    found, kind = entries(modality, tmp_path), modalities.get(modality)
    inside, outside = (survey_entries(found, kind, [], sandbox=sandbox) for sandbox in (True, False))
    assert told(inside) == told(outside)
    assert {row["name"] for row in inside} == {entry.name for entry in found}
    assert ("ok" in {row["status"] for row in inside}) == (folder != "hostile")
    pa.Table.from_pylist(inside, schema=SURVEY)


@pytest.mark.parametrize("sandbox", [True, False])
def test_entries_come_back_in_order_with_what_was_opened_and_few_are_held(
    tmp_path: Path, sandbox: bool
) -> None:
    kind = modalities.get("image")
    good = kind.synth(0)["jpg"]
    for i in range(5 * BATCH_ENTRIES):
        (tmp_path / f"{i:03}.jpg").write_bytes(good if i % 7 else good[:99])
    found, taken = entries("image", tmp_path), 0
    found.insert(3, found[0]._replace(name="away.jpg", refusal=("too-large", "not to be opened")))

    def listed() -> Iterator[Entry]:
        nonlocal taken
        for entry in found:
            taken += 1
            yield entry

    for at, (entry, _, look, outcome) in enumerate(examined(listed(), kind, [], sandbox=sandbox)):
        assert entry.name == found[at].name
        assert taken - at <= 3 * BATCH_ENTRIES
        if isinstance(look, BadSample):
            assert (found[at].name, outcome) == ("away.jpg", look)
        else:
            assert look.raw.name == found[at].name
            assert isinstance(outcome, BadSample) == (len(look.raw.read()) == 99)
    assert at == len(found) - 1


CUTS = [
    ("hyperspectral", "hyperspectral/jasperRidge2_R198.mat", "tiles", {"size": 64}),
    ("pointcloud", "points/autzen_trim.laz", "tiles", {"size": 200.0}),
    ("video", "video/rotated_180.mov", "clips", {"seconds": 0.05}),
]


@pytest.mark.parametrize(("modality", "name", "how", "options"), CUTS)
def test_pieces_of_a_local_path_are_cut_the_same_inside_and_outside(
    shared_data: Path, modality: str, name: str, how: str, options: dict[str, Any]
) -> None:
    kind = modalities.get(modality)
    raw = Raw(name=name, content=shared_data / name)
    stages = [{"kind": "cut", "how": how, "options": options}]
    look = Look(raw=raw, sidecars={})
    with Sandbox() as sandbox:
        [inside] = sandbox.examine([look], kind, stages)
        assert not isinstance(inside, BadSample)
        outside = list(process.examine(look, kind, stages))
        assert len(inside) > 1
        assert repr(inside) == repr(outside)
        last = inside[-1]
        assert isinstance(last, process.Sample)
        given: dict[str, Any] = {"spec": last.spec, "suffix": last.suffix}
        built = sandbox.build(look, kind, stages, meta=json.loads(json.dumps(last.meta)), **given)
        assert repr(built) == repr(process.build(look, kind, stages, meta=last.meta, **given))


def test_the_switch_turns_it_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.jpg").write_bytes(modalities.get("image").synth(0)["jpg"])
    found = entries("image", tmp_path)
    monkeypatch.setattr("pipelines.stages.sandbox.CELL", "no.such.module")
    monkeypatch.setattr("pipelines.stages.sandbox._mine", SimpleNamespace())
    monkeypatch.setenv("RAYLOOM_SANDBOX", "0")
    assert survey_entries(found, modalities.get("image"), [])[0]["status"] == "ok"
    monkeypatch.delenv("RAYLOOM_SANDBOX")
    with pytest.raises(
        SandboxError, match=r"does not start: it ended with exit code 1\n.*no.such.*RAYLOOM_SANDBOX=0 decodes"
    ):
        survey_entries(found, modalities.get("image"), [])


RESIZE = {"kind": "transform", "how": "resize", "options": {"shorter": 16}}
SHARP = {"kind": "filter", "field": "quality.blur", "min": 0.0}
WIDE = {"kind": "filter", "field": "meta.width", "min": 1}


@pytest.mark.parametrize(
    ("stages", "decode", "starts"),
    [
        ([], True, 1),
        ([], False, 0),
        ([WIDE], False, 0),
        ([SHARP], False, 1),
        ([RESIZE], True, 0),
        ([RESIZE, WIDE], False, 1),
    ],
)
def test_headers_alone_are_read_without_the_decoders_process(
    stages: list[dict[str, Any]], decode: bool, starts: int
) -> None:
    kind = modalities.get("image")
    look = Look(raw=process.as_raw(kind.synth(0), kind), sidecars={})
    with Sandbox() as sandbox:
        [found] = sandbox.examine([look], kind, stages, decode=decode)
        assert repr(found) == repr(process.examined(look, kind, stages, decode=decode))
        assert not isinstance(found, BadSample)
        assert sandbox.starts == starts


@pytest.mark.parametrize("modality", ["pointcloud", "hyperspectral", "video"])
def test_a_piece_that_was_built_to_be_judged_can_be_built_again_from_what_was_found(
    tmp_path: Path, modality: str
) -> None:
    """The facts that come with it are those of its object, which may have another format and other sizes."""
    kind = modalities.get(modality)
    how, options = {
        "pointcloud": ("tiles", {"size": 10}),
        "hyperspectral": ("tiles", {"size": 16}),
        "video": ("clips", {"seconds": 0.5}),
    }[modality]
    if modality == "pointcloud":
        points = [f"{x} {y} {x * y % 7}\n" for x in range(20) for y in range(10)]
        (tmp_path / "a.xyz").write_text("".join(points))
    else:
        for ext, content in kind.synth(0).items():
            (tmp_path / f"a.{ext}").write_bytes(content)
    stages = [{"kind": "cut", "how": how, "options": options}]
    [entry] = entries(modality, tmp_path)
    plain = survey_entries([entry], kind, stages, sandbox=False)
    judged = survey_entries([entry], kind, stages, compare="arrays", sandbox=False)
    assert len(plain) > 1
    assert [row["meta"] for row in judged] == [row["meta"] for row in plain]
    raw, sidecars = open_entry(entry)
    for row in judged:
        meta, spec = json.loads(row["meta"]), json.loads(row["spec"])
        built = process.build(
            Look(raw=raw, sidecars=sidecars), kind, stages, meta=meta, spec=spec, suffix=row["suffix"]
        )
        assert isinstance(built, process.Sample)
        assert process.arrays_digest(kind.decode(built.files)) == row["arrays"]
