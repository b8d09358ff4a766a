"""What lies in quarantine is looked at again after a fix, and nothing else is."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jobs import storage as commands
from jobs.config.schema import IngestJob
from jobs.ingest import ingest_dataset
from pipelines.graphs import ingest as graph
from pipelines.shards.dataset import Dataset
from pipelines.shards.manifest import Conflict
from pipelines.shards.storage import open_storage
from pipelines.shards.turns import end_attempt

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


def picture(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (16, 16, 3), np.uint8)
    Image.fromarray(pixels).save(out := io.BytesIO(), "PNG")
    return out.getvalue()


def test_a_replay_admits_what_was_mended_and_nothing_else(tmp_path: Path, capsys: Any) -> None:
    source, data = tmp_path / "source", str(tmp_path / "data")
    source.mkdir()
    for i in range(4):
        (source / f"{i}.png").write_bytes(picture(i))
    for name in ("a", "b"):
        (source / f"{name}.png").write_bytes(b"\x89PNG\r\n\x1a\n cut short " + name.encode())
    job = IngestJob.model_validate(
        {"kind": "ingest", "modality": "image", "source": {"uri": str(source)}, "output": data}
    )
    first = ingest_dataset(job).manifest
    assert (first.books.written, first.books.quarantined) == (4, 2)
    assert commands.replay(data) == 0
    assert "none of 2" in capsys.readouterr().out
    assert Dataset.open(data).manifest.digest == first.digest

    (source / "a.png").write_bytes(picture(50))
    (source / "new.png").write_bytes(picture(51))
    assert commands.replay(data) == 0
    dataset = Dataset.open(data)
    books = dataset.manifest.books
    assert "1 samples of 2 names in quarantine admitted, 1 quarantined again" in capsys.readouterr().out
    assert (books.inputs, books.written, books.quarantined) == (6, 5, 1)
    assert [row["name"] for row in dataset.dropped()] == ["b.png"]
    assert {row.source for _, row in dataset} == {"0.png", "1.png", "2.png", "3.png", "a.png"}
    assert dataset.check()["ok"]

    later = ingest_dataset(job)  # an ordinary run takes the new file, and a.png no more
    assert (later.books.inputs, later.books.written, later.manifest.number) == (1, 1, 2)
    assert Dataset.open(data).check()["ok"]
    assert not ingest_dataset(job).added
    shard = later.manifest.shards[1]  # of the replay
    for key in (shard.key, f"runs/{dataset.plans()[1]}/plan.json"):
        Path(data, key).write_bytes(b"")
    assert commands.repair(data) == 0
    assert commands.diff(f"{data}@1", data) == 1
    assert "+ new" in capsys.readouterr().out


@pytest.mark.parametrize("moment", [("survey", 0), ("survey", 1), ("pack", 0), ("pack", 1)])
def test_of_two_replays_at_once_one_is_a_conflict_and_nothing_mixes(
    moment: tuple[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other begins and ends within this one; it can read nothing, or finds all done."""
    monkeypatch.setattr(graph, "each", lambda work, units, what: (work(unit) for unit in range(units)))
    source, data = tmp_path / "source", str(tmp_path / "data")
    source.mkdir()
    (source / "0.png").write_bytes(picture(0))
    (source / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n cut short")
    job = IngestJob.model_validate(
        {"kind": "ingest", "modality": "image", "source": {"uri": str(source)}, "output": data,
         "dedup": "near", "quarantine": {"max_share": 1.0}}
    )  # fmt: skip
    ingest_dataset(job)
    codes: list[int] = []

    class Other:
        def __init__(self, *_: Any) -> None: ...

        def __call__(self, phase: str, done: int, _: int) -> None:
            if (phase, done) == moment and not codes:
                codes.append(-1)
                codes[0] = commands.replay(data)
                if (tmp_path / "away.png").exists():
                    (tmp_path / "away.png").rename(source / "a.png")
            elif (phase, done) == moment == ("pack", 0) and codes == [-1]:  # away while the other packs
                (source / "a.png").rename(tmp_path / "away.png")

        def close(self) -> None: ...

    if moment[0] == "pack":
        (source / "a.png").write_bytes(picture(50))
    with monkeypatch.context() as patch:
        patch.setattr("jobs.ingest.Progress", Other)
        with pytest.raises(Conflict, match="ended first; run the same again"):
            commands.replay(data)
    won = moment == ("pack", 1)  # the other finds all done
    assert Dataset.open(data).manifest.number == won
    assert codes == [0]
    (source / "a.png").write_bytes(picture(50))
    commands.replay(data)
    dataset = Dataset.open(data)
    assert (dataset.manifest.number, dataset.manifest.books.written) == (1, 2)
    assert dataset.check()["ok"]
    assert not [key for key in open_storage(data).list("runs/") if key.endswith("attempt")]


def test_a_replay_that_another_one_is_about_to_forget_is_not_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files are there still: the other may be slow to remove them."""
    monkeypatch.setattr(graph, "each", lambda work, units, what: (work(unit) for unit in range(units)))
    source, storage = tmp_path / "source", open_storage(str(tmp_path / "data"))
    source.mkdir()
    (source / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n cut short")
    job = IngestJob.model_validate(
        {"kind": "ingest", "modality": "image", "source": {"uri": str(source)}, "output": storage.url,
         "quarantine": {"max_share": 1.0}}
    )  # fmt: skip
    ingest_dataset(job)
    (source / "a.png").write_bytes(picture(50))

    class Other:
        def __init__(self, *_: Any) -> None: ...

        def __call__(self, phase: str, done: int, _: int) -> None:
            if (phase, done) == ("pack", 1):
                [survey] = {key.split("/")[1] for key in storage.list("runs/") if "/ids/" in key} - before
                end_attempt(storage, survey)

        def close(self) -> None: ...

    before = {key.split("/")[1] for key in storage.list("runs/")}
    with monkeypatch.context() as patch:
        patch.setattr("jobs.ingest.Progress", Other)
        with pytest.raises(Conflict, match="ended first; run the same again"):
            commands.replay(storage.url)
    assert commands.replay(storage.url) == 0
    assert Dataset.open(storage.url).manifest.books.written == 1


def test_another_source_is_that_of_one_replay_alone(tmp_path: Path, capsys: Any) -> None:
    source, mended, data = tmp_path / "source", tmp_path / "mended", str(tmp_path / "data")
    for folder in (source, mended):
        folder.mkdir()
    (source / "0.png").write_bytes(picture(0))
    for name in ("a", "b"):
        (source / f"{name}.png").write_bytes(b"\x89PNG\r\n\x1a\n cut short " + name.encode())
    job = IngestJob.model_validate(
        {"kind": "ingest", "modality": "image", "source": {"uri": str(source)}, "output": data}
    )
    first = ingest_dataset(job).manifest
    (mended / "a.png").write_bytes(picture(1))
    assert commands.replay(data, source=str(mended)) == 0
    assert "1 samples of 2 names" in capsys.readouterr().out
    assert Dataset.open(data).manifest.job == first.job
    (source / "b.png").write_bytes(picture(2))
    assert commands.replay(data) == 0
    assert "1 samples of 1 names" in capsys.readouterr().out
    dataset = Dataset.open(data)
    assert (dataset.manifest.number, dataset.manifest.books.written) == (2, 3)
    Path(data, dataset.manifest.shards[1].key).write_bytes(b"")  # of the mended one: that is still found
    assert commands.repair(data) == 0
    assert not ingest_dataset(job).added


def test_the_pieces_that_failed_are_admitted_beside_the_others_of_their_object(
    tmp_path: Path, capsys: Any
) -> None:
    """One of two tiles has no points within the crop, until its source is mended."""
    source, data = tmp_path / "source", str(tmp_path / "data")
    source.mkdir()
    crop = {"low": [0, 0, 0], "high": [100, 100, 100]}
    stages = [
        {"kind": "cut", "how": "tiles", "options": {"size": 10}},
        {"kind": "transform", "how": "crop", "options": crop},
    ]
    job = IngestJob.model_validate(
        {
            "kind": "ingest", "modality": "pointcloud", "source": {"uri": str(source)}, "output": data,
            "stages": stages, "dedup": "exact",
        }
    )  # fmt: skip
    rng = np.random.default_rng(0)
    points = rng.uniform(1, 9, (2, 50, 3))
    points[1] += (10, 0, -50)
    np.savetxt(source / "a.xyz", points.reshape(-1, 3))
    first = ingest_dataset(job).manifest
    assert (first.books.inputs, first.books.written, first.books.quarantined) == (2, 1, 1)
    for _ in range(2):  # nothing is mended: it is as if nobody had looked
        assert commands.replay(data) == 0
        assert "none of 1" in capsys.readouterr().out
        assert Dataset.open(data).manifest == first
        assert not [key for key in open_storage(data).list("runs/") if key.startswith("runs/replay-")]
    points[1, :, 2] += 50
    np.savetxt(source / "a.xyz", points.reshape(-1, 3))
    assert commands.replay(data) == 0
    dataset = Dataset.open(data)
    books = dataset.manifest.books
    assert (books.inputs, books.written) == (2, 2)
    assert dataset.dropped() == []
    assert dataset.manifest.shards[:1] == first.shards
    assert {row.key for _, row in dataset} == {"a_x000000_y000000", "a_x000001_y000000"}
    assert not ingest_dataset(job).added
    for key in (dataset.manifest.shards[1].key, f"runs/{dataset.plans()[1]}/plan.json"):
        Path(data, key).write_bytes(b"")
    assert commands.repair(data) == 0
    assert dataset.check()["ok"]
