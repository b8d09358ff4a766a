"""The end of a run: every unit's mark is there, the books close, and the next snapshot is committed."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pipelines.shards.ahead import THREADS, ahead
from pipelines.shards.manifest import Books, Conflict, Manifest, Shard, commit, plan_of
from pipelines.shards.pack import Done, done_key, read_done
from pipelines.shards.planned import FEW, unit_sizes
from pipelines.shards.storage import Storage

NOTHING: Final = Books()


def commit_run(
    storage: Storage, *, run: str, parent: Manifest | None, left_out: Books, modality: str, settings: str,
    classes: Sequence[str], job: Mapping[str, Any], readmitted: Books = NOTHING,
) -> tuple[Manifest, Books]:  # fmt: skip
    """Close the books of a run (`survey/plan`) and commit the snapshot after `parent`; both are returned.

    `left_out` has what the plan dropped before packing; `readmitted` what the parent's books had as
    quarantined and this run counts anew. Raises as `close_books` and `commit` do.
    """
    books, shards = close_books(storage, plan_of(run), left_out=left_out)
    _still_there(storage, plan_of(run), shards)
    manifest = Manifest(
        number=parent.number + 1 if parent else 0,
        parent=parent.digest if parent else None,
        modality=modality,
        settings=settings,
        plans=[*(parent.plans if parent else ()), run],
        classes=classes,
        books=books + parent.books - readmitted if parent else books,
        shards=[*(parent.shards if parent else ()), *shards],
        job=job,
    )
    commit(storage, manifest)
    return manifest, books


def close_books(storage: Storage, plan: str, *, left_out: Books) -> tuple[Books, list[Shard]]:
    """Where every input of a run went, and its shards in order, from the done-markers.

    `left_out` has what the plan dropped before packing: quarantined, duplicates, filtered. A unit without a
    mark, or whose mark does not account for each of its samples, is an AssertionError: nothing is committed.
    """
    sizes = unit_sizes(storage, plan)
    threads = THREADS if len(sizes) > FEW else 1
    marks = list(ahead(lambda unit: read_done(storage, plan, unit), range(len(sizes)), threads))
    missing = [unit for unit, mark in enumerate(marks) if mark is None]
    done = [mark for mark in marks if mark is not None]
    if missing:
        raise AssertionError(f"units {missing} of plan {plan} ended without their mark")
    for unit, (mark, size) in enumerate(zip(done, sizes, strict=True)):
        if problem := unit_problem(mark, size):
            raise AssertionError(f"the books of unit {unit} of plan {plan} do not close: {problem}")
    books = Books(
        inputs=sum(sizes) + left_out.quarantined + left_out.duplicates + left_out.filtered,
        written=sum(mark.counts["written"] for mark in done),
        quarantined=left_out.quarantined + sum(mark.counts["quarantined"] for mark in done),
        filtered=left_out.filtered + sum(mark.counts["filtered"] for mark in done),
        duplicates=left_out.duplicates,
    )
    return books, [mark.shard for mark in done if mark.shard]


def unit_problem(mark: Done, size: int) -> str:
    """Why a mark does not account for `size` planned samples, or nothing."""
    if sum(mark.counts.values()) != size:
        return f"{size} planned, {dict(mark.counts)}"
    if mark.counts["written"] != (mark.shard.samples if mark.shard else 0):
        return f"{mark.counts['written']} written, {mark.shard.samples if mark.shard else 0} in its shard"
    return ""


def _still_there(storage: Storage, plan: str, shards: Sequence[Shard]) -> None:
    """A run that rested too long may have lost shards to gc: their marks must not be believed again."""
    if not shards:
        return
    there = {*storage.list("shards/"), *storage.list("index/")}
    lost = [
        shard
        for shard in shards
        for key in (shard.key, shard.index_key)
        if key not in there and storage.size(key) is None
    ]
    if lost:
        for unit in range(len(unit_sizes(storage, plan))):
            if (mark := read_done(storage, plan, unit)) and mark.shard in lost:
                storage.delete(done_key(plan, unit))
        raise Conflict(f"{len(lost)} shards of plan {plan} were removed meanwhile; run the same job again")
