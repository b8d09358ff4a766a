"""What a snapshot holds already, as a plan for the next one asks: read part by part, never as a whole."""

import logging
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

import modalities
from pipelines.parquet import from_parquet
from pipelines.seal import Corrupt
from pipelines.shards.ahead import ahead
from pipelines.shards.dataset import Dataset
from pipelines.shards.decisions import KNOWN, Decisions
from pipelines.shards.manifest import Conflict, Shard
from pipelines.shards.marks import hash128, suffix_of
from pipelines.shards.quarantine import dropped_tables
from pipelines.shards.spill import Spill, bucket_of
from pipelines.shards.storage import read_verified
from pipelines.shards.waiting import PIECES, WAITS, Waiting, name_hashes, waiting
from pipelines.stages.splits import NAMES

log = logging.getLogger("rayloom")
_COLUMNS = ["key", "source", "content", "arrays", "label", "caption", "group", "fingerprint"]
LEFT_OUT = ["name", "content", "reason"]
PASSING = ("unreadable",)  # reasons that may be gone the next time: the same entry is tried again
NAMED = pa.schema(
    [
        ("a", pa.uint64()),  # of the name
        ("b", pa.uint64()),
        ("row", pa.int64()),  # of the survey; what the snapshot has comes as IN_INDEX and LEFT
        ("status", pa.string()),
        ("name", pa.string()),
        ("suffix", pa.string()),  # of what the snapshot has: where pieces are told apart
        ("content", pa.string()),
        ("reason", pa.string()),
        ("label", pa.string()),
        ("caption", pa.string()),
    ]
)
IN_INDEX, LEFT = -1, -2
Record = dict[str, Any]  # a row of NAMED
CHANGED = "a snapshot holds this name with other bytes; rename it, or give its source a name (source.name)"


class Known:
    """A snapshot, seen as tables."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self.patterns = modalities.get(dataset.manifest.modality).patterns
        self.classes = list(dataset.manifest.classes)

    def samples(self) -> Iterator[pa.Table]:
        """A table a shard: key, source, content, arrays, label, caption, group, fingerprint, split (int8).

        And suffix, where some objects have pieces that may come in later: of these, else None.
        """

        def read(shard: Shard) -> pa.Table:
            table = self._dataset.index(shard, _COLUMNS)
            codes = np.full(table.num_rows, NAMES.index(shard.split), np.int8)
            table = table.append_column("split", pa.array(codes))
            if (told := self._in_pieces(table["source"])) is None:
                return table
            named = zip(table["key"].to_pylist(), table["source"].to_pylist(), told.tolist(), strict=True)
            suffixes = [suffix_of(key, name, self.patterns) if of else None for key, name, of in named]
            return table.append_column("suffix", pa.array(suffixes, pa.string()))

        return ahead(read, self._dataset.manifest.shards)

    def _in_pieces(self, sources: pa.ChunkedArray) -> NDArray[np.bool_] | None:
        """Of which of these the pieces are told apart; None: of none."""
        names = self.waiting.names
        return np.isin(name_hashes(sources.to_pylist()), names) if len(names) else None

    @cached_property
    def waiting(self) -> Waiting:
        """Duplicates of what was lost."""
        return waiting(self._dataset)

    def left_out(self) -> Iterator[pa.Table]:
        """name, content and reason of what was quarantined, filtered or a duplicate.

        Where duplicates wait, or did once, also suffix and status: WAITS of those. Corrupt, at the end: a
        file that tells of them is lost.
        """
        waits = self.waiting
        columns = [*dict.fromkeys([*LEFT_OUT, *PIECES])] if len(waits.rows) + len(waits.past) else LEFT_OUT
        found = dropped_tables(self._dataset.storage, self._dataset.manifest, columns)
        return (waits.told(table, run, WAITS) for run, table in found)

    def ids(self) -> Iterator[NDArray[np.int64]]:
        """Ids of every entry that this snapshot and its ancestors have looked at.

        A file of them that is damaged only costs a second look: names and contents tell what is known.
        """
        storage = self._dataset.storage

        def parse(content: bytes) -> NDArray[np.int64]:
            table = from_parquet(content, ["id"])
            if not table.num_columns:
                raise Corrupt("it holds no ids")
            found: NDArray[np.int64] = table["id"].to_numpy()
            return found

        def read(key: str) -> NDArray[np.int64]:
            try:
                return read_verified(storage, key, parse)
            except Corrupt as e:
                log.warning("%s; what it names is looked at again, and rayloom repair makes it anew", e)
                return np.empty(0, np.int64)

        runs = (run.partition("/")[0] for run in self._dataset.manifest.plans)
        return ahead(read, (key for run in runs for key in storage.list(f"runs/{run}/ids/")))

    def settle(self, records: list[Record], decisions: Decisions) -> None:
        """Decide on the survey's rows of some names that the snapshot has too, all that there is of each."""
        there: dict[tuple[str, str], Record] = {}  # a replay may have added pieces of another content
        left: dict[str, set[tuple[str, str]]] = {}
        waits, written = set[tuple[str, str, str]](), set[tuple[str, str, str]]()
        for record in records:
            if record["row"] == IN_INDEX:
                there[record["name"], record["content"]] = record
                written.add((record["name"], record["suffix"], record["content"]))
            elif record["status"] == WAITS:
                waits.add((record["name"], record["suffix"], record["content"]))
            elif record["row"] == LEFT:
                left.setdefault(record["name"], set()).add((record["content"], record["reason"]))
        names, waits = {name for name, _ in there}, waits - written
        done: list[int] = []
        changed: list[int] = []
        for record in records:
            name, content, ok = record["name"], record["content"], record["status"] == "ok"
            if record["row"] < 0 or (name, record["suffix"], content) in waits:
                continue
            gone = left.get(name, set())
            if before := there.get((name, content)):
                same_words(record, before)
                done.append(record["row"])
            elif name in names and ok:
                # The same change may have been noticed, and written down, before.
                (done if (content, "changed") in gone else changed).append(record["row"])
            elif (content, record["reason"]) in gone or (
                ok and any(content == other and why not in PASSING for other, why in gone)
            ):
                done.append(record["row"])
        write_down(done, changed, decisions)


def settle_known(
    known: Known, names: Spill, decisions: Decisions, also: Callable[[pa.Table], None] = lambda _: None
) -> None:
    """Decide what of the survey the snapshot has: nothing is to be done, or it changed under its name.

    `names` holds the survey's rows as NAMED in buckets by `a`; what the snapshot has is added here. `also`
    gets its samples too, so that they are read once.
    """
    for table in known.samples():
        also(table)
        _add(names, table.append_column("name", table["source"]), IN_INDEX)
    for table in known.left_out():
        _add(names, table, LEFT)
    for bucket in names.drain():
        rows, a = bucket["row"].to_numpy(), bucket["a"].to_numpy()
        both = np.intersect1d(a[rows >= 0], a[rows < 0])
        if len(both):
            known.settle(bucket.filter(pa.array(np.isin(a, both))).to_pylist(), decisions)


def _add(names: Spill, table: pa.Table, row: int) -> None:
    hashes = np.array([hash128("name", text) for text in table["name"].to_pylist()], np.uint64).reshape(-1, 2)
    count = len(hashes)
    given: dict[str, Any] = {name: table[name] for name in table.schema.names}
    given |= {"a": hashes[:, 0], "b": hashes[:, 1], "row": np.full(count, row)}
    nulls = pa.nulls(count, pa.string())
    names.add(
        pa.table([given.get(field.name, nulls) for field in NAMED], schema=NAMED),
        bucket_of(hashes[:, 0], names.buckets),
    )


def write_down(done: list[int], changed: list[int], decisions: Decisions) -> None:
    """Write down which rows the snapshot has, and which changed under their names."""
    nothing = [""] * len(done)
    decisions.drop(np.array(done, np.int64), KNOWN, nothing, nothing)
    decisions.drop(
        np.array(changed, np.int64), "quarantined", ["changed"] * len(changed), [CHANGED] * len(changed)
    )


def same_words(row: Record, before: Record) -> None:
    """Conflict: what is there has another label or caption."""
    for field in ("label", "caption"):
        if row["status"] == "ok" and row[field] != before[field]:
            raise Conflict(
                f"{row['name']} has {field} {row[field]!r} now, {before[field]!r} in the snapshot before. "
                "Give the dataset another output; if folders are classes, say so with source.labels: folder"
            )
