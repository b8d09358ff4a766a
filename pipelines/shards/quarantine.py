"""What a run left out, with reasons: the files of its plan, and those of the units that its marks name."""

import re
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from pipelines.parquet import to_parquet
from pipelines.shards.storage import Storage

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
