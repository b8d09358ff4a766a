"""What a run left out, with reasons: the files of its plan, and those of the units that its marks name."""

import re
from collections.abc import Iterator
from typing import Any, Final

import pyarrow as pa

from pipelines.parquet import from_parquet, to_parquet
from pipelines.seal import Corrupt
from pipelines.shards.ahead import ahead
from pipelines.shards.manifest import Manifest, plan_of
from pipelines.shards.storage import Storage, read_verified

REPLAY: Final = "replay-"  # before the name of a survey: what it lists is no longer as earlier runs left it

DROPPED = pa.schema(
    [
        ("status", pa.string()),  # quarantined, filtered, duplicate
        ("name", pa.string()),
        ("suffix", pa.string()),
        ("entry", pa.string()),
        ("content", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("head", pa.binary()),  # the first bytes of what was quarantined, a few kilobytes at most
    ]
)
_OF_A_UNIT = re.compile(r"(\d{6,})-([0-9a-f]{16})\.parquet")


def dropped_table(rows: list[dict[str, Any]]) -> bytes:
    """What was left out, with reasons, as a sealed Parquet file."""
    columns = {name: [row[name] for row in rows] for name in DROPPED.names}
    return to_parquet(pa.table(columns, schema=DROPPED))


def dropped_key(plan: str, unit: int, digest: str) -> str:
    """Where a unit's file with this BLAKE3 is put: of two workers that saw different files, one counts."""
    return f"quarantine/{plan}/{unit:06}-{digest[:16]}.parquet"


def dropped_at(storage: Storage, plan: str, unit: int, digest: str) -> str:
    """Where it lies: units had one name each once."""
    key, before = dropped_key(plan, unit, digest), f"quarantine/{plan}/{unit:06}.parquet"
    return before if storage.size(key) is None and storage.size(before) is not None else key


def dropped_keys(storage: Storage, plan: str) -> Iterator[str]:
    """The files that count: all of the plan, and of each unit the one that its mark names."""
    from pipelines.shards.pack import read_done

    for key in storage.list(folder := f"quarantine/{plan}/"):
        if found := _OF_A_UNIT.fullmatch(key.removeprefix(folder)):
            mark = read_done(storage, plan, int(found[1]))
            if mark is None or not mark.left_out.startswith(found[2]):
                continue
        yield key


def dropped_tables(
    storage: Storage, manifest: Manifest, columns: list[str] | None = None
) -> Iterator[tuple[int, pa.Table]]:
    """Number of the run and what it left out, as DROPPED or its `columns`, file by file.

    Corrupt, at the end: it is not what the books say, for a file, or the mark that names it, is lost.
    """

    def read(numbered: tuple[int, str]) -> tuple[int, pa.Table]:
        number, key = numbered
        return number, read_verified(storage, key, lambda content: from_parquet(content, columns))

    count, books = 0, manifest.books
    keys = ((i, key) for i, run in enumerate(manifest.plans) for key in dropped_keys(storage, plan_of(run)))
    for number, table in ahead(read, keys):
        count += table.num_rows
        yield number, table
    if count != (told := books.inputs - books.written + _counted_anew(storage, manifest)):
        raise Corrupt(
            f"{count} samples lie in quarantine of {storage.url}, {told} by its books: "
            "a file, or the mark that names it, is lost; run rayloom check, then rayloom repair"
        )


def _counted_anew(storage: Storage, manifest: Manifest) -> int:
    """How many of them later runs looked at again: inputs of their runs that the books do not have.

    Replays do, and where there is dedup runs after one that lost what was to stay. The plans tell: whatever
    a run looked at, again or not, is an input of its own plan.
    """
    from pipelines.shards.planned import read_plan

    if manifest.job.get("dedup") == "none" and not any(run.startswith(REPLAY) for run in manifest.plans):
        return 0
    count = -manifest.books.inputs
    for run in manifest.plans:
        try:
            plan = read_plan(storage, plan_of(run))
        except FileNotFoundError as e:
            raise Corrupt(f"{e.filename or e} is lost; run rayloom check, then rayloom repair") from e
        count += plan["samples"] + plan["dropped"]
    return count
