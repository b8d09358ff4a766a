"""Every real file goes through the whole ingest without a byte lost; every hostile one is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from jobs import dataset as commands
from jobs.config.schema import IngestJob
from jobs.ingest import ingest_dataset
from pipelines.shards.dataset import Dataset

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]
FOLDERS = {
    "image": "images",
    "video": "video",
    "pointcloud": "points",
    "hyperspectral": "hyperspectral",
    "lighting": "lighting",
}


def ingest(modality: str, uri: Path, output: Path, **more: Any) -> Dataset:
    values = {"kind": "ingest", "modality": modality, "source": {"uri": str(uri)}, "output": str(output)}
    ingest_dataset(IngestJob.model_validate(values | more))
    return Dataset.open(str(output))


@pytest.mark.parametrize("modality", FOLDERS)
def test_every_real_file_comes_out_as_it_went_in(
    modality: str, shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = ingest(modality, shared_data / FOLDERS[modality], tmp_path / "data")
    assert dataset.dropped() == []
    stored = [content for shard, row in dataset for content in dataset.files(shard, row).values()]
    for path in (p for p in (shared_data / FOLDERS[modality]).rglob("*") if p.is_file()):
        assert path.read_bytes() in stored, path.name
    capsys.readouterr()
    assert commands.check(str(tmp_path / "data"), as_json=True) == 0
    report = json.loads(capsys.readouterr().out)
    assert set(report) == {
        "ok", "samples", "shards", "bytes", "manifest", "books", "problems", "read", "seed",
    }  # fmt: skip
    assert report["ok"] is True
    assert report["books"]["inputs"] == report["books"]["written"] == report["samples"]
    commands.ls(str(tmp_path / "data"), as_json=True)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == report["samples"]
    assert all({"key", "files", "shard", "source"} <= set(line) for line in lines)


@pytest.mark.parametrize(("modality", "name"), [("video", "corrupted.mp4"), ("hyperspectral", "corrupt.tif")])
def test_hostile_files_are_refused_with_a_reason(
    modality: str, name: str, shared_data: Path, tmp_path: Path
) -> None:
    dataset = ingest(modality, shared_data / "hostile" / name, tmp_path / "data")
    assert dataset.manifest.samples == 0
    [row] = dataset.dropped()
    assert (row["status"], row["name"]) == ("quarantined", name)
    assert row["reason"] in ("corrupt", "truncated")
    assert row["detail"]


def test_one_sample_comes_back_by_its_key(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ingest("image", shared_data / "images", tmp_path / "data")
    key = "n02085936_Maltese_dog"
    assert commands.cat(str(tmp_path / "data"), key, member="jpg", output=tmp_path / "dog.jpg") == 0
    assert (tmp_path / "dog.jpg").read_bytes() == (shared_data / "images" / f"{key}.JPEG").read_bytes()
    with pytest.raises(LookupError, match=f"near it: .*{key}"):
        commands.cat(str(tmp_path / "data"), "n02085936_Maltese_dgo")
    for form in ("text", "json", "html"):
        assert commands.stats(str(tmp_path / "data"), form=form, output=tmp_path / f"card.{form}") == 0
    card = json.loads((tmp_path / "card.json").read_text())
    assert card["samples"] == card["fields"]["width"]["count"] == 142
    assert sum(card["quality"]["blur"]["counts"]) == 142
    assert "<script" not in (tmp_path / "card.html").read_text()


def test_a_scene_is_tiled_and_a_film_cut_without_leaks(shared_data: Path, tmp_path: Path) -> None:
    tiles = ingest(
        "hyperspectral",
        shared_data / "hyperspectral" / "hls_10band_224.tif",
        tmp_path / "tiles",
        stages=[{"kind": "cut", "how": "tiles", "options": {"size": 56}}],
        split={"val": 0.5},
    )
    assert tiles.manifest.samples == 16
    assert len({shard.split for shard in tiles.manifest.shards}) == 1  # one scene, one split
    clips = ingest(
        "video",
        shared_data / "video" / "demo.mp4",
        tmp_path / "clips",
        stages=[
            {"kind": "cut", "how": "clips", "options": {"seconds": 2.0}},
            {"kind": "filter", "field": "quality.motion", "min": 0.0},
        ],
    )
    assert clips.manifest.samples > 1
    assert [row.key for _, row in clips] == sorted(row.key for _, row in clips)
