"""Clouds of a few tiles, a machine that fails for some of them, and what comes of both in a dataset.

They go through the real survey, plan, pack and commit, without Ray. The transform of their job fails for some
tiles, until it is mended: a fix of the machine or of the code, which no source shows. Files may go away while
they are packed.
"""

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
from blake3 import blake3

import modalities
from jobs.config.schema import Source
from modalities.base import Arrays, BadSample
from pipelines.parquet import from_parquet, to_parquet
from pipelines.shards import manifest as manifests
from pipelines.shards.arrivals import listing_key, survey_key, write_arrivals
from pipelines.shards.closing import commit_run
from pipelines.shards.dataset import Dataset
from pipelines.shards.manifest import Books
from pipelines.shards.marks import SURVEY, marked, suffix_of
from pipelines.shards.pack import pack_unit
from pipelines.shards.plan import Survey, compared, make_plan
from pipelines.shards.planned import write_plan
from pipelines.shards.quarantine import REPLAY
from pipelines.shards.replay import forget, known_to, only, readmitted, to_replay
from pipelines.shards.runs import Record, record_key
from pipelines.shards.storage import LocalStorage
from pipelines.sources import Entry, list_source
from pipelines.stages.survey import survey_entries

KIND = modalities.get("pointcloud")
STAGES = [{"kind": "cut", "how": "tiles", "options": {"size": 10}}, {"kind": "transform", "how": "fragile"}]
SETTINGS: dict[str, Any] = {
    "stages": STAGES, "decode": True, "dedup": "none", "dedup_distance": 2, "seed": 0,
    "split": {"val": 0.3, "test": 0.0, "by": "scene", "stratify": False},
    "shards": {"max_bytes": 2**20, "max_samples": 2, "shuffle": True},
}  # fmt: skip
Piece = tuple[str, str]


def entries(folder: Path) -> list[Entry]:
    """What a listing finds there."""
    source: Any = SimpleNamespace(**Source(uri=str(folder)).model_dump(), seed=0)
    return list(list_source(source, KIND))


class World:
    """Clouds in a folder, a machine that fails for some tiles, and a dataset."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.source, self.folder = folder / "source", folder
        self.source.mkdir(parents=True)
        self.settings = {**SETTINGS, **settings}
        self.storage = LocalStorage(folder / "data")
        self.broken: set[tuple[float, int]] = set()  # seed of a cloud, number of a tile
        self.why = "broken"  # the reason code
        self.packing = False
        self.gone: set[str] = set()  # files that are away while a run packs

    def cloud(self, name: str, tiles: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        points = rng.uniform(1, 9, (tiles, 200, 3)) + np.arange(tiles)[:, None, None] * [10, 0, 0]
        points[..., 2] = seed + rng.uniform(0, 0.5, (tiles, 200))
        np.savetxt(self.source / name, points.reshape(-1, 3), fmt="%.3f")

    def fragile(self, arrays: Arrays) -> Arrays:
        x, _, z = arrays["points"].min(axis=0)
        if self.packing and (int(z), int(x // 10)) in self.broken:
            raise BadSample(self.why, "the machine fails for this tile")
        return arrays

    def run(self, *, replay: bool = False, fresh: str = "") -> Dataset:
        """What `pipelines.graphs.ingest.ingest` does, step by step, in this process."""
        storage = LocalStorage(self.folder / fresh) if fresh else self.storage
        parent = manifests.load(storage) if manifests.latest(storage) is not None else None
        before = Dataset(storage, parent) if parent else None
        names = to_replay(before) if replay and before else None
        known = known_to(before, names) if before else None
        arrivals = write_arrivals(
            storage, only(entries(self.source), names), settings="s", known=known,
            parent=parent.digest if parent else "", prefix=REPLAY if replay else "",
        )  # fmt: skip
        survey, keys = arrivals.survey, [listing_key(arrivals.survey, i) for i in range(arrivals.chunks)]
        listed = [from_parquet(storage.get(key))["entry"] for key in keys]
        found = [Entry.from_json(text) for column in listed for text in column.to_pylist()]
        rows = survey_entries(
            found, KIND, self.settings["stages"], compare=compared(self.settings), sandbox=False
        )
        table = pa.Table.from_pylist(rows, schema=SURVEY)
        table = marked(table, settings=self.settings, patterns=KIND.patterns)
        plan = make_plan(Survey.of(table), settings=self.settings, known=known)
        name = write_plan(storage, plan, "pointcloud", survey=survey)
        storage.put(survey_key(survey, 0), part := to_parquet(table))
        parts = {**arrivals.digests, "survey": [blake3(part).hexdigest()]}
        record = Record(plan=name, plain=False, clusters=plan.parts.get("clusters", []), **parts)
        storage.put(record_key(survey), record.sealed())
        self.packing = True
        away = [path for path in self.source.iterdir() if path.name in self.gone]
        for path in away:
            path.rename(self.folder / path.name)
        done = [pack_unit(storage, name, unit) for unit in range(plan.units)]
        for path in away:
            (self.folder / path.name).rename(path)
        self.packing = False
        nothing = not plan.num_samples or (replay and not sum(one.counts["written"] for one in done))
        if before and nothing and (replay or not plan.num_dropped):
            forget(storage, survey, name)
            return before
        counts = plan.counts
        commit_run(
            storage, run=f"{survey}/{name}", parent=parent, modality="pointcloud", settings="s",
            classes=plan.classes, job={},
            left_out=Books(
                quarantined=counts["quarantined"], filtered=counts["filtered"], duplicates=counts["duplicate"]
            ),
            readmitted=readmitted(before, survey) if before else Books(),
        )  # fmt: skip
        return Dataset.open(storage.url)


def written(dataset: Dataset) -> dict[Piece, str]:
    """Each sample's piece -> the content of its source. No piece is there twice."""
    pieces = [
        ((row.source, suffix_of(row.key, row.source, KIND.patterns)), row.content) for _, row in dataset
    ]
    assert len(dict(pieces)) == len(pieces)
    return dict(pieces)  # type: ignore[arg-type]


def gone(dataset: Dataset) -> list[tuple[str, str, str]]:
    return sorted((row["name"], row["suffix"], row["status"]) for row in dataset.dropped())


def in_order(dataset: Dataset) -> Dataset:
    """The books tell what lies there, and all of it verifies."""
    books, statuses = dataset.manifest.books, Counter(row["status"] for row in dataset.dropped())
    assert books.closed
    assert books.written == len(written(dataset))
    assert (books.quarantined, books.duplicates, books.filtered) == (
        statuses["quarantined"], statuses["duplicate"], statuses["filtered"],
    )  # fmt: skip
    assert dataset.check()["ok"]
    return dataset


def tile(i: int) -> str:
    return f"x{i:06}_y000000"
