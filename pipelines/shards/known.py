"""What a snapshot holds already, as a plan for the next one asks: read part by part, never as a whole."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.parquet import from_parquet
from pipelines.shards.ahead import ahead
from pipelines.shards.dataset import Dataset
from pipelines.shards.decisions import KNOWN, Decisions
from pipelines.shards.manifest import Conflict, Shard
from pipelines.shards.marks import hash128
from pipelines.shards.quarantine import dropped_keys
from pipelines.shards.spill import Spill, bucket_of
from pipelines.shards.storage import read_verified
from pipelines.stages.splits import NAMES

_COLUMNS = ["key", "source", "content", "arrays", "label", "caption", "group", "fingerprint"]
LEFT_OUT = ["name", "content", "reason"]
NAMED = pa.schema(
    [
        ("a", pa.uint64()),  # of the name
        ("b", pa.uint64()),
        ("row", pa.int64()),  # of the survey; what the snapshot has comes as IN_INDEX and LEFT
        ("ok", pa.bool_()),
        ("name", pa.string()),
        ("content", pa.string()),
        ("reason", pa.string()),
        ("label", pa.string()),
        ("caption", pa.string()),
    ]
)
IN_INDEX, LEFT = -1, -2
CHANGED = "a snapshot holds this name with other bytes; rename it, or give its source a name (source.name)"


class Known:
    """A snapshot, seen as tables."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self.classes = list(dataset.manifest.classes)

    def samples(self) -> Iterator[pa.Table]:
        """A table a shard: key, source, content, arrays, label, caption, group, fingerprint, split (int8)."""

        def read(shard: Shard) -> pa.Table:
            table = self._dataset.index(shard, _COLUMNS)
            codes = np.full(table.num_rows, NAMES.index(shard.split), np.int8)
            return table.append_column("split", pa.array(codes))

        return ahead(read, self._dataset.manifest.shards)

    def left_out(self) -> Iterator[pa.Table]:
        """name, content and reason of what was quarantined, filtered or a duplicate."""
        storage = self._dataset.storage

        def read(key: str) -> pa.Table:
            return read_verified(storage, key, lambda content: from_parquet(content, LEFT_OUT))

        keys = (key for plan in self._dataset.plans() for key in dropped_keys(storage, plan))
        return ahead(read, keys)

    def ids(self) -> Iterator[NDArray[np.int64]]:
        """Ids of every entry that this snapshot and its ancestors have looked at."""
        storage = self._dataset.storage

        def read(key: str) -> NDArray[np.int64]:
            table = read_verified(storage, key, lambda content: from_parquet(content, ["id"]))
            found: NDArray[np.int64] = table["id"].to_numpy()
            return found

        runs = (run.partition("/")[0] for run in self._dataset.manifest.plans)
        return ahead(read, (key for run in runs for key in storage.list(f"runs/{run}/ids/")))


def settle_known(
    known: Known, names: Spill, decisions: Decisions, also: Callable[[pa.Table], None] = lambda _: None
) -> None:
    """Decide what of the survey the snapshot has: nothing is to be done, or it changed under its name.

    `names` holds the survey's rows as NAMED in buckets by `a`; what the snapshot has is added here. `also`
    gets its samples too, so that they are read once.
    """
    for table in known.samples():
        also(table)
        source = table["source"]
        _add(
            names, source, IN_INDEX, content=table["content"], label=table["label"], caption=table["caption"]
        )
    for table in known.left_out():
        _add(names, table["name"], LEFT, content=table["content"], reason=table["reason"])
    for bucket in names.drain():
        _settle(bucket, decisions)


def _add(names: Spill, name: pa.ChunkedArray, row: int, **columns: Any) -> None:
    hashes = np.array([hash128("name", text) for text in name.to_pylist()], np.uint64).reshape(-1, 2)
    count = len(hashes)
    given = {
        "a": pa.array(hashes[:, 0]), "b": pa.array(hashes[:, 1]), "name": name,
        "row": pa.array(np.full(count, row)), "ok": pa.array(np.zeros(count, bool)), **columns,
    }  # fmt: skip
    nulls = pa.nulls(count, pa.string())
    names.add(
        pa.table([given.get(field.name, nulls) for field in NAMED], schema=NAMED),
        bucket_of(hashes[:, 0], names.buckets),
    )


def _settle(table: pa.Table, decisions: Decisions) -> None:
    rows, a = table["row"].to_numpy(), table["a"].to_numpy()
    new = rows >= 0
    both = np.intersect1d(a[new], a[~new])
    if not len(both):
        return
    table = table.filter(pa.array(np.isin(a, both)))
    there: dict[str, dict[str, Any]] = {}
    left: dict[str, set[tuple[str, str]]] = {}
    records = table.to_pylist()
    for record in records:
        if record["row"] == IN_INDEX:
            there[record["name"]] = record
        elif record["row"] == LEFT:
            left.setdefault(record["name"], set()).add((record["content"], record["reason"]))
    done: list[int] = []
    changed: list[int] = []
    for record in records:
        if record["row"] < 0:
            continue
        before, gone = there.get(record["name"]), left.get(record["name"], set())
        if before and before["content"] == record["content"]:
            _same_words(record, before)
            done.append(record["row"])
        elif before and record["ok"]:
            # The same change may have been noticed, and written down, before.
            (done if (record["content"], "changed") in gone else changed).append(record["row"])
        elif (record["content"], record["reason"]) in gone or (
            record["ok"] and any(content == record["content"] for content, _ in gone)
        ):
            done.append(record["row"])
    nothing = [""] * len(done)
    decisions.drop(np.array(done, np.int64), KNOWN, nothing, nothing)
    decisions.drop(
        np.array(changed, np.int64), "quarantined", ["changed"] * len(changed), [CHANGED] * len(changed)
    )


def _same_words(row: dict[str, Any], before: dict[str, Any]) -> None:
    for field in ("label", "caption"):
        if row["ok"] and row[field] != before[field]:
            raise Conflict(
                f"{row['name']} has {field} {row[field]!r} now, {before[field]!r} in the snapshot before. "
                "Give the dataset another output; if folders are classes, say so with source.labels: folder"
            )
