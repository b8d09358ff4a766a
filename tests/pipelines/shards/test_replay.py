"""Of an object of which some pieces could not be built, a replay takes those and leaves the others alone."""

import os
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.seal import Corrupt
from pipelines.shards.arrivals import listing_key
from pipelines.shards.manifest import Books, head_key
from pipelines.shards.marks import suffix_of
from tests.pipelines.shards.fragile import KIND, SETTINGS, STAGES, gone, in_order, tile, written


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


def test_a_replay_of_which_nothing_comes_leaves_nothing(world: Any) -> None:
    w = world()
    w.cloud("a.xyz", 2, 1)
    w.broken = {(1, 0), (1, 1)}
    w.cloud("b.xyz", 2, 2)
    first = w.run()
    before = {key: w.storage.get(key) for key in w.storage.list("")}
    assert w.run(replay=True).manifest == first.manifest
    assert {key: w.storage.get(key) for key in w.storage.list("")} == before


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


@pytest.mark.parametrize("replayed", [False, True])
@pytest.mark.parametrize("lost", ["quarantine/*/survey-*", "quarantine/*/0*", "runs/*/done/*"])
def test_nothing_is_counted_twice_where_what_tells_of_it_is_lost(
    world: Any, tmp_path: Path, lost: str, replayed: bool
) -> None:
    made = world()
    for seed, name in enumerate(("a.xyz", "b.xyz", "c.xyz")):
        made.cloud(name, 2, seed)
    (bad := made.source / "bad.xyz").write_text("no cloud\n")
    made.broken = {(1, 0), (2, 0)}
    made.run()
    if replayed:
        made.broken = {(2, 0)}
        assert made.run(replay=True).manifest.books.quarantined == 2
    root = made.storage.root
    shutil.copytree(root, kept := tmp_path / "kept")
    for path in [*root.glob(lost)]:
        path.unlink()
    os.utime(bad, (9, 9))
    made.cloud("new.xyz", 1, 3)
    before = [*made.storage.list("")]
    for replay in (False, True):
        with pytest.raises(Corrupt, match="run rayloom check, then rayloom repair"):
            made.run(replay=replay)
    assert [*made.storage.list("")] == before
    shutil.copytree(kept, root, dirs_exist_ok=True)
    after = in_order(made.run()).manifest.books
    assert (after.inputs, after.quarantined) == (8, 2 if replayed else 3)


def test_a_damaged_head_of_an_earlier_snapshot_stops_no_run(world: Any) -> None:
    made = world(dedup="exact")
    (made.source / "bad.xyz").write_text("no cloud\n")
    for seed, name in enumerate(("a.xyz", "b.xyz", "c.xyz")):
        made.cloud(name, 2, seed)
        made.run()
    head = made.storage.root / head_key(1)
    content = head.read_bytes()
    head.write_bytes(content[:-9])
    made.cloud("d.xyz", 2, 3)
    assert made.run().manifest.books == Books(inputs=9, written=8, quarantined=1)
    head.unlink()
    assert made.run(replay=True).manifest.number == 3
    head.write_bytes(content)
    in_order(made.run())
