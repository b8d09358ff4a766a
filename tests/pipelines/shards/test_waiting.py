"""When what stays of several duplicates is lost before it is packed, a later run brings another one in."""

import random
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipelines.seal import Corrupt
from pipelines.shards import arrivals, known
from pipelines.shards.dataset import Dataset
from pipelines.shards.manifest import Books
from pipelines.shards.planned import head_key, left_out_key
from pipelines.shards.replay import to_replay
from pipelines.shards.waiting import _names_in, waiting
from pipelines.sources import Entry, Part
from pipelines.stages.survey import survey_entries
from tests.pipelines.shards.fragile import KIND, SETTINGS, World, entries, gone, in_order, tile, written

DEDUP = ("exact", "content", "near")


def lost(w: World, dataset: Dataset) -> list[Any]:
    """Pieces that can be read, and of which the dataset has nothing that could be their duplicate."""
    table = dataset.table(["key", "source", "content", "arrays", "fingerprint"])
    compare: Any = "arrays" if w.settings["dedup"] == "content" else "prints"
    rows = survey_entries(entries(w.source), KIND, w.settings["stages"], compare=compare, sandbox=False)
    rows = [row for row in rows if row["status"] == "ok"]
    if w.settings["dedup"] == "content":
        return [row["name"] for row in rows if row["arrays"] not in set(table["arrays"].to_pylist())]
    pieces = {(content, piece[1]) for piece, content in written(dataset).items()}
    missing = [row for row in rows if (row["content"], row["suffix"]) not in pieces]
    if w.settings["dedup"] == "near":
        prints = table["fingerprint"].to_numpy().astype(np.uint64)
        near = [np.bitwise_count(prints ^ np.uint64(row["fingerprint"])).min(initial=64) for row in missing]
        missing = [row for row, bits in zip(missing, near, strict=True) if bits > 2]
    return [(row["name"], row["suffix"]) for row in missing]


def twice(w: World, dataset: Dataset) -> list[Any]:
    """What is in the dataset more often than once."""
    if w.settings["dedup"] == "content":
        return [value for value, count in Counter(dataset.table(["arrays"])["arrays"].to_pylist()).items()
                if count > 1]  # fmt: skip
    pieces = Counter((content, piece[1]) for piece, content in written(dataset).items())
    return [piece for piece, count in pieces.items() if count > 1]


@pytest.mark.parametrize("dedup", DEDUP)
def test_one_of_the_others_comes_in_when_the_one_that_stays_vanished(world: Any, dedup: str) -> None:
    w = world(dedup=dedup)
    for name in ("a.xyz", "b.xyz", "c.xyz"):
        w.cloud(name, 2, 1)
    w.cloud("other.xyz", 1, 2)
    w.gone = {"a.xyz"}
    first = in_order(w.run())
    assert first.manifest.books == Books(inputs=7, written=1, quarantined=2, duplicates=4)
    assert len(waiting(first).rows) == 4
    (w.source / "a.xyz").unlink()
    w.gone = set()
    assert in_order(w.run(replay=True)).manifest == first.manifest, "nothing in quarantine can be read"
    second = in_order(w.run())
    assert second.manifest.books == Books(inputs=7, written=3, quarantined=2, duplicates=2)
    assert written(second).keys() == {("b.xyz", tile(0)), ("b.xyz", tile(1)), ("other.xyz", tile(0))}
    assert {row["detail"] for row in second.dropped() if row["status"] == "duplicate"} == {"of b.xyz"}
    assert not len(waiting(second).rows)
    assert w.run().manifest == w.run(replay=True).manifest == second.manifest


@pytest.mark.parametrize("dedup", DEDUP)
def test_only_the_pieces_that_were_lost_come_in_from_elsewhere(world: Any, dedup: str) -> None:
    w = world(dedup=dedup)
    for name in ("a.xyz", "b.xyz"):
        w.cloud(name, 3, 1)
    w.broken = {(1, 1)}
    first = in_order(w.run())
    assert gone(first)[0] == ("a.xyz", tile(1), "quarantined")
    w.broken = set()
    w.cloud("c.xyz", 3, 1)
    second = in_order(w.run())
    other = (
        "b.xyz" if dedup == "content" else "c.xyz"
    )  # copies of what failed wait for a replay, new ones not
    assert written(second).keys() == {("a.xyz", tile(0)), ("a.xyz", tile(2)), (other, tile(1))}
    assert second.manifest.books == Books(inputs=9, written=3, quarantined=1, duplicates=5)
    assert not lost(w, second)
    assert w.run(replay=True).manifest == second.manifest, "of the piece that was lost there is another"
    assert w.run().manifest == second.manifest


@pytest.mark.parametrize("stays", [True, False])
def test_copies_of_what_failed_for_its_content_come_in_with_a_replay_and_cost_no_runs(
    world: Any, stays: bool
) -> None:
    w = world(dedup="exact")
    for name in ("a.xyz", "b.xyz", "c.xyz"):
        w.cloud(name, 2, 1)
    w.broken = {(1, 0), (1, 1)}
    first = in_order(w.run())
    assert (len(waiting(first).rows), len(waiting(first).held)) == (0, 4)
    assert w.run().manifest == w.run(replay=True).manifest == first.manifest
    assert to_replay(first) == to_replay(first, "broken") == {"a.xyz", "b.xyz", "c.xyz"}
    assert to_replay(first, "unreadable") == frozenset()
    w.broken = {(1, 1)}
    if not stays:
        (w.source / "a.xyz").unlink()
    half = in_order(w.run(replay=True))
    name = "a.xyz" if stays else "b.xyz"
    assert written(half).keys() == {(name, tile(0))}
    w.broken = set()
    last = in_order(w.run(replay=True))
    assert written(last).keys() == {(name, tile(0)), (name, tile(1))}
    assert last.manifest.books.inputs == 6
    assert w.run().manifest == w.run(replay=True).manifest == last.manifest


@pytest.mark.parametrize("why", ["unreadable", "changed", "name-clash", "does-not-fit"])
def test_copies_of_what_failed_for_its_own_sake_come_in_with_the_next_run(world: Any, why: str) -> None:
    w = world(dedup="exact")
    for name in ("a.xyz", "b.xyz"):
        w.cloud(name, 1, 1)
    w.broken, w.why = {(1, 0)}, why
    assert len(waiting(in_order(w.run())).rows) == 1
    w.broken = set()
    (w.source / "a.xyz").unlink()
    assert written(in_order(w.run())).keys() == {("b.xyz", tile(0))}


def test_a_lost_file_that_tells_what_waits_is_said_with_what_to_do(world: Any) -> None:
    w = world(dedup="exact")
    for name in ("a.xyz", "b.xyz"):
        w.cloud(name, 1, 1)
    w.gone = {"a.xyz"}
    dataset = in_order(w.run())
    plan = dataset.plans()[0]
    for key in (left_out_key(plan, 0), head_key(plan)):
        content = w.storage.get(key)
        w.storage.delete(key)
        with pytest.raises(Corrupt, match=f"{key} is lost; run rayloom check, then rayloom repair"):
            waiting(dataset)
        w.storage.put(key, content)
    assert len(waiting(dataset).rows) == 1


@pytest.mark.parametrize("name", ["a.xyz", 'q"uo\\te\n.xyz', '"name":"x', "caf\u00e9\u2028\U0001f600.xyz"])
def test_the_names_in_a_listing_are_those_of_its_entries(name: str) -> None:
    said = f'{name}","name":"{name}'
    part = Part("file:/" + said, 1)
    made = [
        Entry(name=name, content=part, group=said),
        Entry(name=name, content=part, group=said, label=said, caption=said, companions={"name": part}),
        Entry(name=name, content=part, group=said, refusal=("name", said), sidecars={"name": part}),
    ]
    listing = pa.table({"entry": [entry.to_json() for entry in made]})
    assert _names_in(listing) == [Entry.from_json(text).name for text in listing["entry"].to_pylist()]


@pytest.mark.parametrize("lost", [("listing",), ("listing", "survey"), ("planned.json",)])
@pytest.mark.parametrize("replayed", [False, True])
def test_a_listing_that_is_lost_for_good_stops_no_run(world: Any, lost: Any, replayed: bool) -> None:
    w = world(dedup="exact")
    for name in ("a.xyz", "b.xyz", "c.xyz"):
        w.cloud(name, 2, 1)
    if replayed:
        w.broken = {(1, 0)}
        w.run()
    else:
        w.gone = {"a.xyz"}
        w.run()
        (w.source / "a.xyz").unlink()
    w.gone, w.broken = set(), set()
    second = in_order(w.run(replay=replayed))
    before, survey = waiting(second), second.manifest.plans[1].partition("/")[0]
    assert len(before.past)
    for what in lost:
        for key in [key for key in w.storage.list(f"runs/{survey}/") if what in key]:
            w.storage.delete(key)
    after = waiting(second)
    assert all(np.array_equal(one, other) for one, other in zip(before, after, strict=True))
    assert w.run().manifest == second.manifest
    w.cloud("other.xyz", 1, 2)
    assert ("other.xyz", tile(0)) in written(w.run())


def test_a_new_copy_brings_in_the_piece_that_the_old_one_lost(world: Any) -> None:
    w = world(dedup="exact")
    w.cloud("a.xyz", 2, 1)
    w.broken = {(1, 1)}
    in_order(w.run())
    w.broken = set()
    w.cloud("b.xyz", 2, 1)
    last = in_order(w.run())
    assert written(last).keys() == {("a.xyz", tile(0)), ("b.xyz", tile(1))}


@pytest.mark.parametrize("dedup", DEDUP)
def test_what_a_replay_admits_keeps_its_duplicates(world: Any, dedup: str) -> None:
    w = world(dedup=dedup)
    for name in ("a.xyz", "b.xyz"):
        w.cloud(name, 2, 1)
    w.broken = {(1, 0), (1, 1)}
    first = in_order(w.run())
    w.broken = {(1, 1)}
    half = in_order(w.run(replay=True))
    assert written(half).keys() == {("a.xyz", tile(0))}
    w.broken = set()
    last = in_order(w.run(replay=True))
    assert written(last).keys() == {("a.xyz", tile(0)), ("a.xyz", tile(1))}
    assert [row for row in gone(first) if row[2] == "duplicate"] == gone(last)
    assert w.run().manifest == last.manifest


def test_what_comes_back_with_other_bytes_is_no_reason_to_leave_out_the_old_ones(world: Any) -> None:
    w = world(dedup="exact")
    for name in ("a.xyz", "b.xyz"):
        w.cloud(name, 1, 1)
    w.gone = {"a.xyz"}
    first = in_order(w.run())
    w.cloud("a.xyz", 1, 9)
    w.gone = {"b.xyz"}  # b can be listed, and is lost in its turn
    in_order(w.run(replay=True))
    second = in_order(w.run())
    assert written(second).keys() == {("a.xyz", tile(0))}
    w.gone = set()
    last = in_order(w.run())
    assert written(last).keys() == {("a.xyz", tile(0)), ("b.xyz", tile(0))}
    assert len(first.dropped()) == 2
    assert w.run().manifest == last.manifest


def test_what_is_the_same_as_what_is_nearly_what_was_lost_comes_in(world: Any) -> None:
    w = world(dedup="near", dedup_distance=16)
    w.cloud("first.xyz", 1, 1)
    lines = (w.source / "first.xyz").read_text().splitlines(keepends=True)
    for name in ("b.xyz", "c.xyz"):
        (w.source / name).write_text("".join(lines[1:]))
    w.gone = {"first.xyz", "b.xyz"}
    first = in_order(w.run())
    assert first.manifest.books == Books(inputs=3, quarantined=1, duplicates=2)
    reasons = {
        (row["name"], row["detail"].split(",")[0]) for row in first.dropped() if row["reason"] != "unreadable"
    }
    assert reasons == {("b.xyz", "of first.xyz"), ("c.xyz", "of b.xyz")}
    for name in w.gone:
        (w.source / name).unlink()
    last = in_order(w.run())
    assert written(last).keys() == {("c.xyz", tile(0))}
    assert w.run().manifest == last.manifest


def test_what_a_filter_left_out_loses_nothing(world: Any) -> None:
    few = {"kind": "filter", "field": "meta.num_points", "min": 1000}
    w = world(dedup="content", stages=[*SETTINGS["stages"], few])
    for name in ("a.xyz", "b.xyz"):
        w.cloud(name, 2, 1)
    first = in_order(w.run())
    assert first.manifest.books == Books(inputs=4, filtered=4)
    assert w.run().manifest == first.manifest


@pytest.mark.parametrize("seed", range(6))
def test_whatever_is_lost_and_comes_back_is_in_the_dataset_once(world: Any, seed: int) -> None:
    rng = random.Random(seed)
    dedup = DEDUP[seed % 3]
    by = "cluster" if dedup == "near" and seed % 2 else "scene"
    w = world(dedup=dedup, dedup_distance=2, split={**SETTINGS["split"], "by": by})
    every = [(i, t) for i in range(4) for t in range(3)]
    clouds = [(rng.randrange(4), rng.choice([2, 3])) for _ in range(14)]
    for step in range(4):
        for i, (which, tiles) in enumerate(clouds[3 * step :][:3] if step else clouds[:6]):
            w.cloud(f"{rng.randrange(100):02}-{step}{i}.xyz", tiles, which)
        names = sorted(path.name for path in w.source.iterdir())
        w.gone = set(rng.sample(names, rng.randint(0, len(names) // 2)))
        w.broken = set(rng.sample(every, rng.randint(0, 4)))
        dataset = in_order(w.run(replay=step > 0 and rng.random() < 0.3))
        for name in sorted(w.gone):
            if rng.random() < 0.5:
                (w.source / name).unlink()
        assert not twice(w, dataset)
    w.gone, w.broken = set(), set()
    for _ in range(3):
        dataset = in_order(w.run())
        dataset = in_order(w.run(replay=True))
    assert w.run().manifest == dataset.manifest, "it comes to rest"
    assert not lost(w, dataset)
    assert not twice(w, dataset)


def test_nothing_more_is_read_where_nothing_was_lost(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A finished job is told by its listing, as long as nobody lost anything."""
    w = world(dedup="exact")
    for name in ("a.xyz", "b.xyz"):
        w.cloud(name, 2, 1)
    first = in_order(w.run())

    def never(*_: Any) -> Any:
        raise AssertionError("an index, or what a plan left out, is read")

    monkeypatch.setattr("pipelines.shards.waiting._planned", never)
    monkeypatch.setattr("pipelines.shards.waiting.listed_of", never)
    found = waiting(first)
    assert not len(found.rows) + len(found.lost)
    assert not len(arrivals._once_more(known.Known(first)))
