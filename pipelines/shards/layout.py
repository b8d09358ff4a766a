"""From samples in any order to shards in theirs: sorted on disk, dealt a stretch of the order at a time."""

from collections import deque
from collections.abc import Iterator, Mapping
from itertools import chain, islice, pairwise
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
        return self._shuffled() if self._shuffle else self._in_order()

    def _shuffled(self) -> Iterator[tuple[int, pa.Table]]:
        """Every bucket is read twice: for the sizes that are dealt, and then for its rows.

        So a unit is held until its last row has come, and not all that is dealt together.
        """
        narrow, whole = self._spill.each(["place", "key", "num_bytes"]), self._spill.drain()
        for code, count in enumerate(self._buckets):
            held: dict[int, list[pa.Table]] = {}
            missing: list[int] = []  # rows of each unit that have not come
            done = 0
            for order, units, sizes in self._dealt(code, islice(narrow, count)):
                missing += sizes
                bucket = next(whole).drop_columns(["place"])
                for unit, rows in _apart(order, units):
                    held.setdefault(unit, []).append(bucket.take(pa.array(rows)))
                    missing[unit] -= len(rows)
                del bucket  # before the next is read
                while done < len(missing) and not missing[done]:
                    yield code, _by_key(held.pop(done))
                    done += 1

    def _dealt(self, code: int, buckets: Iterator[pa.Table]) -> Iterator[tuple[Ints, Ints, list[int]]]:
        """Of each bucket of a split the rows by place and the unit of each; sizes of units that are new.

        What is dealt together are stretches that fill about WINDOW shards, whatever the buckets are.
        """
        windows = max(1, -(-self._taken[code] // (WINDOW * FULL)))
        orders: deque[Ints] = deque()
        window, num_bytes, units = (np.empty(0, np.int64) for _ in range(3))
        whole = 0
        new: list[int] = []
        dealt = 0
        for number, bucket in enumerate(buckets, 1):
            by_place = [("place", "ascending"), ("key", "ascending")]
            orders.append(pc.sort_indices(bucket, sort_keys=by_place).to_numpy().astype(np.int64))
            place = bucket["place"].to_numpy()[orders[-1]]
            places = (((place >> np.uint64(32)) * np.uint64(windows)) >> np.uint64(32)).astype(np.int64)
            window = np.concatenate([window, places])
            num_bytes = np.concatenate([num_bytes, bucket["num_bytes"].to_numpy()[orders[-1]]])
            before, whole = whole, number * windows // self._buckets[code]  # of them none comes any more
            edges = np.searchsorted(window, np.arange(before, whole + 1))
            for start, end in pairwise(edges.tolist()):
                bins = deal_evenly(num_bytes[start:end], **self._limits)
                units = np.concatenate([units, bins + dealt])
                new += np.bincount(bins).tolist()
                dealt += int(bins.max(initial=-1)) + 1
            window, num_bytes = window[edges[-1] :], num_bytes[edges[-1] :]
            while orders and len(orders[0]) <= len(units):
                order = orders.popleft()
                yield order, units[: len(order)], new
                units, new = units[len(order) :], []

    def _in_order(self) -> Iterator[tuple[int, pa.Table]]:
        """The order of the keys: a shard is filled before the next."""
        for code, name in enumerate(NAMES):
            held = PLACED.empty_table()
            for bucket in chain(self._sorted.read(), [None]):
                if bucket is not None:
                    held = pa.concat_tables([held, bucket.filter(pc.equal(bucket["split"], name))])
                held = held.combine_chunks()
                bins = deal_in_order(held["num_bytes"].to_numpy(), **self._limits)
                last = int(bins.max(initial=-1)) + (bucket is None)  # the last one may get more
                edges = np.searchsorted(bins, np.arange(max(last, 0) + 1)).tolist()
                for start, end in pairwise(edges):
                    yield code, held.slice(start, end - start).drop_columns(["place"])
                held = held.slice(edges[-1])


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


def _apart(order: Ints, units: Ints) -> Iterator[tuple[int, Ints]]:
    """Each unit of these, and its rows in their order."""
    by_unit = np.argsort(units, kind="stable")
    found, starts = np.unique(units[by_unit], return_index=True)
    for unit, (start, end) in zip(found.tolist(), pairwise([*starts.tolist(), len(units)]), strict=True):
        yield unit, order[by_unit[start:end]]


def _by_key(parts: list[pa.Table]) -> pa.Table:
    """One table of one chunk."""
    table = pa.concat_tables(parts).combine_chunks()
    return table.take(pc.sort_indices(table, sort_keys=[("key", "ascending")]))
