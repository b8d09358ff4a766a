"""From a tar to shards and from those to shards again: what rode along is still there."""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import modalities
from jobs.config.schema import IngestJob
from jobs.ingest import ingest_dataset, run
from pipelines.shards.dataset import Dataset
from pipelines.stages import process

pytestmark = pytest.mark.usefixtures("ray_cluster")
Job = Callable[..., IngestJob]


@pytest.fixture
def job(tmp_path: Path) -> Job:
    def job(output: str, **fields: Any) -> IngestJob:
        return IngestJob.model_validate({"kind": "ingest", "output": str(tmp_path / output), **fields})

    return job


def samples(path: Path) -> dict[str, dict[str, bytes]]:
    """Key -> extension -> bytes, by the standard library."""
    found: dict[str, dict[str, bytes]] = {}
    for shard in sorted((path / "shards").glob("*.tar")):
        with tarfile.open(shard) as tar:
            for member in tar:
                key, _, ext = member.name.partition(".")
                found.setdefault(key, {})[ext] = tar.extractfile(member).read()  # type: ignore[union-attr]
    return found


def test_a_tar_comes_through_with_every_member(job: Job, tmp_path: Path) -> None:
    picture = modalities.get("image").synth(0)["jpg"]
    riders = {
        "meta.json": b'{"camera": 7}',
        "depth.npy": b"\x93",
        "json": b"[]",
        "txt": b"words",
        "cls": b"5",
    }
    with tarfile.open(tmp_path / "in.tar", "w") as tar:
        for key in ("a", "b"):
            for ext, data in {"jpg": picture + key.encode(), **riders}.items():
                info = tarfile.TarInfo(f"{key}.{ext}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    first = ingest_dataset(job("one", modality="image", source={"uri": str(tmp_path / "in.tar")}))
    second = ingest_dataset(job("two", modality="image", source={"uri": str(tmp_path / "one" / "shards")}))
    assert (first.books.written, second.books.written) == (2, 2)
    for dataset in ("one", "two"):
        for files in samples(tmp_path / dataset).values():
            assert {ext: files[ext] for ext in riders} == riders
            assert json.loads(files["rayloom.json"])["modality"] == "image"
            assert files["jpg"][:-1] == picture
    again = [json.loads(files["rayloom.json"]) for files in samples(tmp_path / "two").values()]
    assert sorted(facts["before"]["source"] for facts in again) == ["in.tar/a.jpg", "in.tar/b.jpg"]


def test_what_cannot_be_carried_is_told_when_the_job_ends(
    job: Job, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = process.as_raw(modalities.get("image").synth(0), modalities.get("image"))
    with tarfile.open(tmp_path / "in.tar", "w") as tar:
        for name in ("a.jpg", "a.depth.npy", "b.jpg", "b.boxes.json"):
            info = tarfile.TarInfo(name)
            info.size = len(data := raw.read() + name.encode())
            tar.addfile(info, io.BytesIO(data))
    resize = [{"kind": "transform", "how": "resize", "options": {"shorter": 16}}]
    assert run(job("out", modality="image", source={"uri": str(tmp_path / "in.tar")}, stages=resize)) == 0
    assert "left behind: .depth.npy of 1 samples, which no image" in capsys.readouterr().out
    assert samples(tmp_path / "out")["b"].keys() == {"png", "boxes.json", "meta.json"}


def test_pieces_that_are_ingested_again_stay_with_their_scene(job: Job, tmp_path: Path) -> None:
    cut = [{"kind": "cut", "how": "tiles", "options": {"size": 8}}]
    ingest_dataset(job("tiles", modality="hyperspectral", source={"synth": 12}, stages=cut, decode=False))
    source = {"uri": str(tmp_path / "tiles" / "shards"), "name": "again"}
    ingest_dataset(job("again", modality="hyperspectral", source=source, split={"val": 0.5}, decode=False))
    splits: dict[str, set[str]] = {}
    for dataset in ("tiles", "again"):
        table = Dataset.open(str(tmp_path / dataset)).table(["key", "group"]).to_pylist()
        assert len({row["group"] for row in table}) == 12 < len(table)
    dataset = Dataset.open(str(tmp_path / "again"))
    for shard in dataset.manifest.shards:
        for row in dataset.rows(shard):
            splits.setdefault(row.group, set()).add(shard.split)
    assert all(len(found) == 1 for found in splits.values())
    assert {split for found in splits.values() for split in found} == {"train", "val"}


def test_a_second_source_with_the_same_names_is_added_under_its_own(job: Job, tmp_path: Path) -> None:
    kind = modalities.get("image")
    for number, folder in enumerate(("here", "there")):
        for i in range(3):
            picture = process.as_raw(kind.synth(10 * number + i), kind)
            path = tmp_path / folder / f"{i}.{picture.name.rpartition('.')[2]}"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(picture.read())
    ingest_dataset(job("out", modality="image", source={"uri": str(tmp_path / "here")}))
    keys = set(samples(tmp_path / "out"))
    unnamed = ingest_dataset(job("out", modality="image", source={"uri": str(tmp_path / "there")}))
    assert (unnamed.books.quarantined, unnamed.books.written) == (3, 0)
    named = ingest_dataset(
        job("out", modality="image", source={"uri": str(tmp_path / "there"), "name": "there"})
    )
    assert (named.books.quarantined, named.books.written) == (0, 3)
    assert set(samples(tmp_path / "out")) == keys | {f"there/{i}" for i in range(3)}
