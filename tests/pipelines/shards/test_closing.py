"""The end of a run: nothing is committed whose books do not close."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jobs.chaos.small import left_out, make_pictures, survey, work_on
from pipelines.shards.closing import close_books, unit_problem
from pipelines.shards.manifest import Shard
from pipelines.shards.pack import Done, done_key, pack_unit, seal_done
from pipelines.shards.storage import LocalStorage

SHARD = Shard(digest="d", samples=3, size=9, split="train", index="i")


@pytest.mark.parametrize(
    ("shard", "written", "quarantined", "problem"),
    [
        (SHARD, 3, 1, ""),
        (None, 0, 4, ""),
        (SHARD, 3, 0, "4 planned"),
        (SHARD, 3, 2, "4 planned"),
        (SHARD, 4, 0, "4 written, 3 in its shard"),
        (SHARD, 2, 2, "2 written, 3 in its shard"),
        (None, 1, 3, "1 written, 0 in its shard"),
    ],
)
def test_a_mark_accounts_for_every_sample_and_for_its_shard(
    shard: Shard | None, written: int, quarantined: int, problem: str
) -> None:
    mark = Done(shard=shard, counts={"written": written, "quarantined": quarantined, "filtered": 0})
    assert unit_problem(mark, 4).startswith(problem)
    assert bool(unit_problem(mark, 4)) == bool(problem)


@pytest.mark.parametrize(
    "change",
    [
        lambda mark: replace(mark, counts={**mark.counts, "written": 0, "filtered": mark.counts["written"]}),
        lambda mark: replace(mark, counts={**mark.counts, "filtered": 1}),
        lambda mark: replace(mark, shard=None),
    ],
)
def test_books_that_do_not_close_are_no_books(
    change: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYLOOM_SANDBOX", "0")
    make_pictures(tmp_path / "source")
    work, storage = work_on("all", survey(tmp_path / "source")), LocalStorage(tmp_path / "data")
    plan, dropped = work.write(storage), left_out(work.plan.counts)
    marks = [pack_unit(storage, plan, unit) for unit in range(work.plan.units)]
    books, shards = close_books(storage, plan, left_out=dropped)
    assert books.closed
    assert len(shards) == len(marks)
    storage.replace(done_key(plan, 0), seal_done(plan, 0, change(marks[0])))
    with pytest.raises(AssertionError, match=f"books of unit 0 of plan {plan} do not close"):
        close_books(storage, plan, left_out=dropped)
    storage.delete(done_key(plan, 0))
    with pytest.raises(AssertionError, match=r"units \[0\] of plan .* ended without their mark"):
        close_books(storage, plan, left_out=dropped)
