"""Strips of a flight line, each of them cut into tiles: nothing of a line is trained on and held out."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import modalities
from jobs.config.schema import IngestJob
from jobs.ingest import ingest_dataset
from pipelines.shards.dataset import Dataset

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]
LINES = 12


def fly(folder: Path, strip: int, first: int = 0) -> None:
    """One more strip of each line from the first; of the lines a third is of towns."""
    for line in range(first, LINES):
        (folder / f"line{line}").mkdir(parents=True, exist_ok=True)
        for ext, content in modalities.get("hyperspectral").synth(100 * strip + line).items():
            (folder / f"line{line}" / f"strip{strip}.{ext}").write_bytes(content)
        (folder / f"line{line}" / f"strip{strip}.cls").write_text("town" if line % 3 == 0 else "forest")


def job(source: Path, output: Path, split: dict[str, Any]) -> IngestJob:
    return IngestJob.model_validate(
        {
            "kind": "ingest", "modality": "hyperspectral", "source": {"uri": str(source)},
            "output": str(output), "split": split,
            "stages": [{"kind": "cut", "how": "tiles", "options": {"size": 16}}],
        }
    )  # fmt: skip


def splits(dataset: Dataset, parts: int) -> dict[str, str]:
    """Of each line, or strip, as so many parts of its name say: the one split that all its tiles are in."""
    found: dict[str, set[str]] = {}
    for shard, row in dataset:
        found.setdefault("/".join(row.group.split("/")[:parts]), set()).add(shard.split)
    assert all(len(of) == 1 for of in found.values()), found
    return {name: of.pop() for name, of in found.items()}


@pytest.mark.parametrize("stratify", [False, True])
def test_strips_of_a_line_go_one_way_when_folders_do(tmp_path: Path, stratify: bool) -> None:
    source = tmp_path / "source"
    fly(source, 0)
    fly(source, 1)
    split = {"val": 0.25, "test": 0.25, "by": "folder", "stratify": stratify}
    ingest_dataset(job(source, tmp_path / "data", split))
    dataset = Dataset.open(str(tmp_path / "data"))
    before = splits(dataset, 1)
    assert len(before) == LINES
    assert len(set(before.values())) == 3
    assert all(count > 2 for count in Counter(row.source for _, row in dataset).values()), (
        "tiles of each strip"
    )
    if stratify:
        towns = Counter(before[f"line{line}"] for line in range(0, LINES, 3))
        assert towns == {"train": 2, "val": 1, "test": 1}
    fly(source, 2, first=LINES // 2)
    ingest_dataset(job(source, tmp_path / "data", split))
    later = Dataset.open(str(tmp_path / "data"))
    assert later.manifest.number == 1
    assert splits(later, 1) == before, "a new strip goes where its line is"
    assert later.manifest.books.inputs == dataset.manifest.books.inputs * 5 // 4
    twice = ingest_dataset(job(source, tmp_path / "again", split))
    assert set(splits(Dataset.open(str(tmp_path / "again")), 1)) == set(before)
    if not stratify:
        assert twice.manifest.samples == later.manifest.samples
        assert splits(Dataset.open(str(tmp_path / "again")), 1) == before, "by name alone"


def test_a_table_says_which_strips_are_one_line_and_a_strip_alone_is_a_scene(tmp_path: Path) -> None:
    fly(tmp_path / "source", 0)
    fly(tmp_path / "source", 1)
    split = {"val": 0.3, "test": 0.3}
    ingest_dataset(job(tmp_path / "source", tmp_path / "alone", split))
    alone = splits(Dataset.open(str(tmp_path / "alone")), 2)
    assert len(alone) == 2 * LINES
    assert any(alone[f"line{line}/strip0"] != alone[f"line{line}/strip1"] for line in range(LINES))

    rows = [f"{path},{path.parent.name}" for path in sorted((tmp_path / "source").rglob("strip*.tif"))]
    (tmp_path / "lines.csv").write_text("\n".join(["uri,group", *rows]))
    ingest_dataset(job(tmp_path / "lines.csv", tmp_path / "joined", split))
    joined = splits(Dataset.open(str(tmp_path / "joined")), 1)
    assert Dataset.open(str(tmp_path / "joined")).manifest.books.quarantined == 0
    assert joined.keys() == {f"line{line}" for line in range(LINES)}
    assert len(set(joined.values())) == 3


def test_folders_decide_too_where_a_table_names_files_elsewhere(tmp_path: Path) -> None:
    fly(tmp_path / "source", 0)
    fly(tmp_path / "source", 1)
    (tmp_path / "lists").mkdir()
    strips = sorted((tmp_path / "source").rglob("strip*.tif"))
    for name, uris in (("lines", strips), ("grouped", [f"{path},line1" for path in strips])):
        header = "uri,group" if name == "grouped" else "uri"
        (tmp_path / f"lists/{name}.csv").write_text("\n".join([header, *map(str, uris)]))
    split = {"val": 0.3, "test": 0.3, "by": "folder"}
    ingest_dataset(job(tmp_path / "lists/lines.csv", tmp_path / "data", split))
    found = splits(Dataset.open(str(tmp_path / "data")), 1)
    assert len(found) == LINES
    assert len(set(found.values())) > 1, "the folders' names are this test's own: two of three splits will do"
    with pytest.raises(ValueError, match="'line1' has no folder"):
        ingest_dataset(job(tmp_path / "lists/grouped.csv", tmp_path / "none", split))
