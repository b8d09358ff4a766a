"""The end of a run: every unit's mark is there, the books close, and the next snapshot can be committed."""

from pipelines.shards.manifest import Books, Shard
from pipelines.shards.pack import Done, read_done, unit_sizes
from pipelines.shards.storage import Storage


def close_books(storage: Storage, plan: str, *, left_out: Books) -> tuple[Books, list[Shard]]:
    """Where every input of a run went, and its shards in order, from the done-markers.

    `left_out` has what the plan dropped before packing: quarantined, duplicates, filtered. A unit without a
    mark, or whose mark does not account for each of its samples, is an AssertionError: nothing is committed.
    """
    sizes = unit_sizes(storage, plan)
    marks = [read_done(storage, plan, unit) for unit in range(len(sizes))]
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
