"""Of an object of which some pieces could not be built, a replay takes those and leaves the others alone.

Clouds of a few tiles go through the real survey, plan, pack and commit, without Ray. The transform of their
job fails for some tiles, until it is mended: a fix of the machine or of the code, which no source shows.
"""

import random
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from blake3 import blake3

import modalities
from jobs.config.schema import Source
from modalities.base import Arrays, BadSample
from pipelines.parquet import from_parquet, to_parquet
from pipelines.seal import Corrupt
from pipelines.shards import manifest as manifests
from pipelines.shards.arrivals import listing_key, survey_key, write_arrivals
from pipelines.shards.closing import commit_run
from pipelines.shards.dataset import Dataset
from pipelines.shards.manifest import Books
from pipelines.shards.marks import SURVEY, marked, suffix_of
from pipelines.shards.pack import pack_unit
from pipelines.shards.plan import Survey, compared, make_plan
from pipelines.shards.planned import write_plan
from pipelines.shards.replay import forget, in_quarantine, known_to, only, readmitted
from pipelines.shards.runs import Record, record_key
from pipelines.shards.storage import LocalStorage
from pipelines.shards.waiting import REPLAY
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


class World:
    """Clouds in a folder, a machine that fails for some tiles, and a dataset."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.source, self.folder = folder / "source", folder
        self.source.mkdir(parents=True)
        self.settings = {**SETTINGS, **settings}
        self.storage = LocalStorage(folder / "data")
        self.broken: set[tuple[float, int]] = set()  # seed of a cloud, number of a tile
        self.packing = False

    def cloud(self, name: str, tiles: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        points = rng.uniform(1, 9, (tiles, 200, 3)) + np.arange(tiles)[:, None, None] * [10, 0, 0]
        points[..., 2] = seed + rng.uniform(0, 0.5, (tiles, 200))
        np.savetxt(self.source / name, points.reshape(-1, 3), fmt="%.3f")

    def fragile(self, arrays: Arrays) -> Arrays:
        x, _, z = arrays["points"].min(axis=0)
        if self.packing and (int(z), int(x // 10)) in self.broken:
            raise BadSample("broken", "the machine fails for this tile")
        return arrays

    def run(self, *, replay: bool = False, fresh: str = "") -> Dataset:
        """What `pipelines.graphs.ingest.ingest` does, step by step, in this process."""
        storage = LocalStorage(self.folder / fresh) if fresh else self.storage
        parent = manifests.load(storage) if manifests.latest(storage) is not None else None
        before = Dataset(storage, parent) if parent else None
        names = frozenset(name for name, _ in in_quarantine(before)) if replay and before else None
        known = known_to(before, names) if before else None
        source: Any = SimpleNamespace(**Source(uri=str(self.source)).model_dump(), seed=0)
        arrivals = write_arrivals(
            storage, only(list_source(source, KIND), names), settings="s", known=known,
            parent=parent.digest if parent else "", prefix=REPLAY if replay else "",
        )  # fmt: skip
        survey, keys = arrivals.survey, [listing_key(arrivals.survey, i) for i in range(arrivals.chunks)]
        listed = [from_parquet(storage.get(key))["entry"] for key in keys]
        entries = [Entry.from_json(text) for column in listed for text in column.to_pylist()]
        rows = survey_entries(
            entries, KIND, self.settings["stages"], compare=compared(self.settings), sandbox=False
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
        done = [pack_unit(storage, name, unit) for unit in range(plan.units)]
        self.packing = False
        if before and not sum(one.counts["written"] for one in done) and (replay or not plan.num_dropped):
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


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("RAYLOOM_SANDBOX", "0")

    def make(**settings: Any) -> World:
        made = World(tmp_path / f"{len(list(tmp_path.iterdir()))}", **settings)
        monkeypatch.setitem(KIND.transforms, "fragile", made.fragile)  # type: ignore[arg-type]
        return made

    return make


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


@pytest.mark.parametrize("dedup", ["none", "exact", "content", "near"])
@pytest.mark.parametrize("by", ["scene", "cluster"])
def test_a_mended_machine_admits_the_pieces_it_had_failed_for_and_no_other(
    world: Any, dedup: str, by: str
) -> None:
    w = world(dedup=dedup, split={**SETTINGS["split"], "by": by})
    w.cloud("a.xyz", 3, 1)
    w.cloud("b.xyz", 2, 2)
    w.cloud("twin.xyz", 3, 1)
    w.broken = {(1, 1), (1, 2)}
    first = in_order(w.run())
    assert first.manifest.books.quarantined == (4 if dedup == "none" else 2)
    assert in_order(w.run(replay=True)).manifest == first.manifest, "nothing was mended"
    w.broken = {(1, 2)}
    second = in_order(w.run(replay=True))
    w.broken = set()
    last = in_order(w.run(replay=True))
    fresh = w.run(fresh="fresh")
    assert written(last) == written(fresh)
    assert last.manifest.books == fresh.manifest.books
    assert gone(last) == gone(fresh)
    for earlier, later in ((first, second), (second, last)):
        assert later.manifest.shards[: len(earlier.manifest.shards)] == earlier.manifest.shards
        assert written(earlier).keys() < written(later).keys()
    splits = {(row.group, shard.split) for shard, row in last}
    assert len(splits) == len({group for group, _ in splits}), "a scene keeps its split"
    assert w.run(replay=True).manifest == w.run().manifest == last.manifest


def test_pieces_of_a_mended_source_come_in_beside_those_that_are_there(world: Any) -> None:
    """What is written stays, of the old bytes; what the source gives now, and was not written, comes in."""
    w = world(dedup="exact")
    w.cloud("a.xyz", 3, 1)
    w.broken = {(1, 1), (1, 2)}
    first = in_order(w.run())
    assert gone(first) == [("a.xyz", tile(1), "quarantined"), ("a.xyz", tile(2), "quarantined")]
    w.cloud("a.xyz", 2, 1)
    with (w.source / "a.xyz").open("a") as file:
        file.writelines(f"{x} 5 1\n" for x in np.linspace(31, 39, 50))
    w.broken = {(1, 1)}
    second = in_order(w.run(replay=True))
    old, new = written(first), written(second)
    assert new.keys() == {("a.xyz", tile(0)), ("a.xyz", tile(3))}  # tile 2 is no longer there
    assert new["a.xyz", tile(0)] == old["a.xyz", tile(0)] != new["a.xyz", tile(3)]
    assert gone(second) == [("a.xyz", tile(1), "quarantined")]
    w.broken = set()
    third = in_order(w.run(replay=True))
    assert third.manifest.books == Books(inputs=3, written=3)
    (w.source / "a.xyz").touch()
    assert w.run().manifest == third.manifest, "a touched file is none that changed"
    w.cloud("a.xyz", 3, 1)
    assert w.run().manifest == third.manifest, "these bytes are there, too"
    w.cloud("a.xyz", 4, 7)
    changed = in_order(w.run())
    assert gone(changed) == [("a.xyz", tile(i), "quarantined") for i in range(4)]
    last = in_order(w.run(replay=True))
    assert written(last).keys() == {("a.xyz", tile(i)) for i in range(4)}
    assert written(third).items() < written(last).items(), "what changed under its name stays out"
    assert gone(last) == [("a.xyz", tile(i), "quarantined") for i in (0, 1, 3)]
    assert in_order(w.run(replay=True)).manifest == last.manifest


def test_an_object_that_fails_as_a_whole_waits_as_a_whole(world: Any) -> None:
    w = world()
    w.cloud("a.xyz", 2, 1)
    w.cloud("b.xyz", 2, 2)
    w.broken = {(1, 1), (2, 0)}
    first = in_order(w.run())
    good = (w.source / "a.xyz").read_bytes()
    (w.source / "a.xyz").write_bytes(b"no numbers at all")
    w.broken = set()
    second = in_order(w.run(replay=True))
    assert written(second).keys() == {("a.xyz", tile(0)), ("b.xyz", tile(0)), ("b.xyz", tile(1))}
    assert gone(second) == [("a.xyz", "", "quarantined")]
    (w.source / "a.xyz").write_bytes(good)
    last = in_order(w.run(replay=True))
    assert written(last) == {**written(second), ("a.xyz", tile(1)): written(first)["a.xyz", tile(0)]}
    assert last.manifest.books == Books(inputs=4, written=4)


def test_pieces_that_were_filtered_out_keep_their_place(world: Any) -> None:
    few = {"kind": "filter", "field": "meta.num_points", "min": 100}
    w = world(stages=[*STAGES, few], dedup="content")
    w.cloud("a.xyz", 2, 1)
    with (w.source / "a.xyz").open("a") as file:
        file.writelines(f"{x} 5 1\n" for x in np.linspace(21, 29, 50))
    w.cloud("twin.xyz", 2, 1)
    w.broken = {(1, 0)}
    first = in_order(w.run())
    assert first.manifest.books == Books(inputs=5, written=1, quarantined=1, duplicates=2, filtered=1)
    w.broken = set()
    last = in_order(w.run(replay=True))
    assert last.manifest.books == Books(inputs=5, written=2, duplicates=2, filtered=1)
    assert gone(last) == [row for row in gone(first) if row[2] != "quarantined"]


@pytest.mark.parametrize("seed", range(6))
def test_whatever_fails_and_is_mended_in_turn_the_books_close(world: Any, seed: int) -> None:
    rng = random.Random(seed)
    w = world(dedup=rng.choice(["none", "exact"]))
    every = [(i, t) for i in range(4) for t in range(4)]
    for i in range(4):
        w.cloud(f"{i}.xyz", rng.randint(1, 4), i)
    w.cloud("twin.xyz", rng.randint(1, 4), 0)
    w.broken = set(rng.sample(every, 9))
    dataset = in_order(w.run())
    for _ in range(5):
        if rng.random() < 0.5:
            w.cloud(f"{rng.randrange(4)}.xyz", rng.randint(1, 4), rng.randrange(4))
        w.broken = set(rng.sample(every, rng.randint(0, 9)))
        later = in_order(w.run(replay=rng.random() < 0.7))
        before, after = written(dataset), written(later)
        assert before.items() <= after.items(), "what is written stays"
        dataset = later


def test_a_suffix_is_told_from_a_key() -> None:
    from pipelines.shards.marks import make_key, name_tag

    for name in ("a.xyz", "b/c d.xyz", f"{'long' * 50}.xyz", "in.tar/a.b.xyz", "a_x.xyz"):
        for suffix in ("", "x1", "x1_y2"):
            key = make_key(name, suffix, KIND.patterns)
            assert suffix_of(key, name, KIND.patterns) == suffix
            assert suffix_of(f"{key}-{name_tag(name)}", name, KIND.patterns) == suffix
    assert suffix_of("made otherwise", "a.xyz", KIND.patterns) is None


def test_a_lost_listing_of_a_replay_ends_the_next_before_it_counts_anything_twice(world: Any) -> None:
    made = world()
    for seed, name in enumerate(("a.xyz", "b.xyz", "c.xyz")):
        made.cloud(name, 2, seed)
    made.broken = {(1, 0), (2, 0)}
    made.run()
    made.broken = {(2, 0)}
    before = made.run(replay=True)
    assert (before.manifest.number, before.manifest.books.quarantined) == (1, 1)
    lost = listing_key(before.manifest.plans[-1].partition("/")[0], 0)
    content = made.storage.get(lost)
    made.storage.delete(lost)
    made.broken = set()
    with pytest.raises(Corrupt, match="run rayloom check, then rayloom repair"):
        made.run(replay=True)
    made.storage.put(lost, content)
    after = made.run(replay=True).manifest.books
    assert (after.inputs, after.written, after.quarantined) == (6, 6, 0)
