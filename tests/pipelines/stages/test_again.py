"""Our own shards are a source as any other: each sample comes out of them as it went in."""

import io
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import modalities
from modalities.base import Files, Modality, Raw
from pipelines.sources import list_source, open_entry
from pipelines.stages import process
from pipelines.stages.process import Look, Sample

CLIPS = {"kind": "cut", "how": "clips", "options": {"seconds": 0.2}}
CLOUD_TILES = {"kind": "cut", "how": "tiles", "options": {"size": 5.0}}
TILES = {"kind": "cut", "how": "tiles", "options": {"size": 8}}
SMALL = {"kind": "transform", "how": "resize", "options": {"shorter": 16}}
VOXEL = {"kind": "transform", "how": "voxel", "options": {"size": 0.5}}
SAMPLES: list[tuple[str, int | str, list[dict[str, Any]]]] = [
    *((name, seed, []) for name in modalities.names() for seed in (0, 1)),
    ("image", 0, [SMALL]),
    ("video", 0, [CLIPS]),
    ("pointcloud", 1, [CLOUD_TILES]),
    ("pointcloud", 1, [VOXEL]),
    ("pointcloud", "xyz", [VOXEL]),
    ("hyperspectral", 0, [TILES]),
    ("hyperspectral", "zarr", []),
    ("hyperspectral", "zarr", [TILES]),
    ("lighting", 0, [{"kind": "cut", "how": "frames", "options": {"window": 2}}]),
]  # fmt: skip


def object_of(kind: Modality, which: int | str, folder: Path) -> Look:
    if which == "xyz":
        rows = np.random.default_rng(0).random((50, 3)) * 4
        text = "\n".join(" ".join(map(str, row)) for row in rows)
        return Look(raw=Raw(name="a.xyz", content=text.encode()), sidecars={})
    if which == "zarr":
        import zarr

        cube = np.arange(13 * 10 * 4, dtype=np.float32).reshape(13, 10, 4)
        zarr.create_array(folder / "s.zarr", name="cube", data=cube, chunks=(5, 5, 4))
        paths = [path for path in (folder / "s.zarr").rglob("*") if path.is_file()]
        inside = {path.relative_to(folder / "s.zarr").as_posix(): path.read_bytes() for path in paths}
        Image.fromarray(np.zeros((13, 10), np.uint8)).save(mask := io.BytesIO(), "PNG")
        return Look(
            raw=Raw(name="s.zarr/", content=b"", companions=inside), sidecars={"seg.png": mask.getvalue()}
        )
    files = {name: data for name, data in kind.synth(int(which)).items() if name != "cls"}
    return Look(raw=process.as_raw(files, kind), sidecars={})


def built(kind: Modality, look: Look, stages: list[dict[str, Any]]) -> list[Files]:
    found = [one for one in process.examine(look, kind, stages) if isinstance(one, Sample)]
    meta = kind.probe(look.raw)
    samples = [
        process.build(look, kind, stages, meta=meta, spec=one.spec, suffix=one.suffix) for one in found
    ]
    return [sample.files for sample in samples if isinstance(sample, Sample)]


@pytest.mark.parametrize(("modality", "which", "stages"), SAMPLES, ids=lambda value: str(value)[:40])
def test_a_sample_of_ours_is_ingested_again_as_it_is(
    modality: str, which: int | str, stages: list[dict[str, Any]], tmp_path: Path
) -> None:
    kind = modalities.get(modality)
    files = built(kind, object_of(kind, which, tmp_path), stages)
    assert files
    with tarfile.open(tmp_path / "shard.tar", "w") as tar:
        for number, sample in enumerate(files):
            for name, data in sample.items():
                info = tarfile.TarInfo(f"{number:04}.{name}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    source = SimpleNamespace(
        uri=str(tmp_path / "shard.tar"), synth=None, labels="none", glob=None, uri_column="uri",
        label_column="label", caption_column="caption",
    )  # fmt: skip
    again = []
    for entry in list_source(source, kind):
        raw, sidecars = open_entry(entry)
        again += built(kind, Look(raw=raw, sidecars=sidecars), [])
    assert again == files
