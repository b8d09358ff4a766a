"""From samples in any order to shards in theirs: sorted on disk, dealt a stretch of the order at a time."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipelines.shards.deal import FULL, deal_evenly, deal_in_order, shares
from pipelines.shards.marks import SURVEY
from pipelines.shards.spill import Spill, bucket_of, num_buckets
from pipelines.stages.splits import NAMES, TEST, TRAIN, VAL

PLACED = pa.schema([("key", pa.string()), ("split", pa.string()), *SURVEY, ("place", pa.uint64())])
Ints = NDArray[np.int64]
WINDOW = 16  # shards that are dealt together, about
BUCKET_BYTES = 2**18  # held of a bucket, about, before all are written


class Layout:
    """Takes samples, gives units. `rows`: how many samples, about: only memory depends on it."""

    def __init__(self, folder: Path, rows: int, settings: Mapping[str, Any]) -> None:
        self._limits = {name: settings["shards"][name] for name in ("max_bytes", "max_samples")}
        self._shuffle = settings["shards"]["shuffle"]
        self._taken = dict.fromkeys(range(len(NAMES)), 0)  # shares of a shard, by split
        held_out = settings["split"]
        parts = {VAL: held_out["val"], TEST: held_out["test"]}
        parts[TRAIN] = 1 - parts[VAL] - parts[TEST]
        self._buckets = [num_buckets(int(rows * parts[code])) for code in range(len(NAMES))]
        self._first = np.cumsum([0, *self._buckets])
        if not self._shuffle:
            self._sorted = _Sorted(folder / "unsorted", rows)
        buckets = int(self._first[-1])
        self._spill = Spill(folder / "placed", PLACED, buckets, bucket_bytes=BUCKET_BYTES)

    def add(self, table: pa.Table, codes: NDArray[np.int8]) -> None:
        """Samples as PLACED, and the code of the split of each."""
        part = shares(table["num_bytes"].to_numpy(), **self._limits)
        for code in range(len(NAMES)):
            self._taken[code] += int(part[codes == code].sum())
        if not self._shuffle:
            self._sorted.add(table)
            return
        places = table["place"].to_numpy()
        bucket = np.empty(len(codes), np.int64)
        for code, buckets in enumerate(self._buckets):
            mine = codes == code
            bucket[mine] = self._first[code] + bucket_of(places[mine], buckets)
        self._spill.add(table, bucket)

    def units(self) -> Iterator[tuple[int, pa.Table]]:
        """Split code and rows of every unit, in order; inside a unit rows lie in the order of their keys."""
        deal = deal_evenly if self._shuffle else deal_in_order
        for code, table, order in self._windows() if self._shuffle else self._in_order():
            bins = deal(table["num_bytes"].to_numpy()[order], **self._limits)
            yield from ((code, unit) for unit in _cut(table, order, bins))
            del table  # before the next is made

    def _windows(self) -> Iterator[tuple[int, pa.Table, NDArray[np.int64]]]:
        """Stretches of the shuffled order that fill about WINDOW shards each, whatever the buckets are.

        Each is a table, and the places in it of the stretch, in order.
        """
        buckets = self._spill.drain()
        for code, count in enumerate(self._buckets):
            windows = max(1, -(-self._taken[code] // (WINDOW * FULL)))
            held, done = PLACED.empty_table(), 0
            for number in range(count):
                held = pa.concat_tables([held, next(buckets)])
                whole = (number + 1) * windows // count  # windows that end where this bucket ends, or before
                if whole == done:
                    continue
                by = held.select(["place", "key"]).combine_chunks()
                place = by["place"].to_numpy()
                window = (((place >> np.uint64(32)) * np.uint64(windows)) >> np.uint64(32)).astype(np.int64)
                by_place = [("place", "ascending"), ("key", "ascending")]
                order = pc.sort_indices(by, sort_keys=by_place).to_numpy().astype(np.int64)
                edges = np.searchsorted(window[order], np.arange(done, whole + 1))
                for start, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
                    yield code, held, order[start:end]
                held, done = held.filter(pa.array(window >= whole)), whole

    def _in_order(self) -> Iterator[tuple[int, pa.Table, NDArray[np.int64]]]:
        """The order of the keys: stretches of whole shards."""
        for code, name in enumerate(NAMES):
            held = PLACED.empty_table()
            for bucket in self._sorted.read():
                mine = bucket.filter(pc.equal(bucket["split"], name))
                held = pa.concat_tables([held, mine]).combine_chunks()
                bins = deal_in_order(held["num_bytes"].to_numpy(), **self._limits)
                whole = int(np.searchsorted(bins, bins[-1])) if len(bins) else 0
                yield code, held, np.arange(whole)
                held = held.slice(whole)
            yield code, held, np.arange(held.num_rows)


class _Sorted:
    """Samples by key, out of any order: buckets between keys of a sample of them."""

    def __init__(self, folder: Path, rows: int) -> None:
        self._unsorted = Spill(folder / "all", PLACED, 1)
        self._folder, self._buckets = folder, num_buckets(rows)
        self._every = max(1, rows // 2**18)
        self._seen: list[str] = []
        self._spill: Spill | None = None

    def add(self, table: pa.Table) -> None:
        self._unsorted.add(table, np.zeros(table.num_rows, np.int64))
        self._seen += table["key"].take(pa.array(np.arange(0, table.num_rows, self._every))).to_pylist()

    def read(self) -> Iterator[pa.Table]:
        """Sorted buckets, as often as asked."""
        if self._spill is None:
            keys = np.sort(np.array([key.encode() for key in self._seen], "S"))
            edges = keys[np.arange(1, self._buckets) * len(keys) // self._buckets] if len(keys) else keys
            self._spill = Spill(self._folder / "sorted", PLACED, self._buckets, bucket_bytes=BUCKET_BYTES)
            for part in self._unsorted.parts():
                names = np.array([key.encode() for key in part["key"].to_pylist()], "S")
                self._spill.add(part, np.searchsorted(edges, names, side="right"))
        for bucket in self._spill:
            yield bucket.sort_by("key")


def _cut(table: pa.Table, order: NDArray[np.int64], bins: NDArray[np.int64]) -> Iterator[pa.Table]:
    """The rows of each bin in the order of their keys. `bins` is of the rows at `order`."""
    by_key = pa.table({"bin": bins, "key": table["key"].take(pa.array(order))})
    again = pc.sort_indices(by_key, sort_keys=[("bin", "ascending"), ("key", "ascending")]).to_numpy()
    batches, rows = table.drop_columns(["place"]).to_batches(), order[again]
    starts = np.cumsum([0, *map(len, batches)])
    edges = np.searchsorted(bins[again], np.arange(bins.max(initial=-1) + 2))
    for start, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        yield _gathered(batches, starts, rows[start:end])


def _gathered(batches: list[pa.RecordBatch], starts: Ints, rows: Ints) -> pa.Table:
    """Rows of a table that lies in batches. Arrow's own `take` would make one of all of them."""
    order = np.argsort(rows)
    edges = np.searchsorted(rows[order], starts)
    found = [
        batch.take(pa.array(rows[order[low:high]] - start))
        for batch, start, low, high in zip(batches, starts, edges, edges[1:], strict=False)
        if low < high
    ]
    return pa.Table.from_batches(found).combine_chunks().take(pa.array(np.argsort(order)))
