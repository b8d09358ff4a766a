"""Which samples are the same, or nearly: who stays, who is left out, and what belongs together."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipelines.shards.decisions import Decisions
from pipelines.shards.exchange import Exchange, Exchanges, OnDisk
from pipelines.shards.spill import Spill, bucket_of, num_buckets
from pipelines.stages.dedup import Ints, Values, components, is_in, keepers, mixed, settled, starts

CANDIDATE = pa.schema(
    [
        ("a", pa.uint64()),  # equal for what is the same: 128 bits of its bytes
        ("b", pa.uint64()),
        ("piece", pa.uint64()),
        ("fingerprint", pa.uint64()),
        ("given", pa.bool_()),  # it is in the snapshot before, and stays
        ("row", pa.int64()),
        ("num_bytes", pa.int64()),
        ("name", pa.string()),
        ("suffix", pa.string()),
        ("draw", pa.uint64()),
    ]
)
CLUSTERS = pa.schema(
    [
        ("cluster", pa.string()),
        ("name", pa.string()),
        ("suffix", pa.string()),
        ("stays", pa.bool_()),
        ("of", pa.string()),  # the one that stays instead; itself if it does
        ("reason", pa.string()),  # same-bytes, same-content, near-duplicate
        ("distance", pa.int8()),  # bits of the fingerprints
    ]
)
FOUND = pa.schema(  # what one part of an exchange gives
    [
        *CLUSTERS,
        ("row", pa.int64()),
        ("draw", pa.uint64()),
        ("with", pa.uint64()),  # the draw of the first of its cluster
        ("number", pa.uint64()),  # which it was brought together by
    ]
)
PREFERENCE = [
    ("given", "descending"),
    ("num_bytes", "descending"),
    ("name", "ascending"),
    ("suffix", "ascending"),
    ("draw", "ascending"),  # of given ones there may be several of one name
]
NEAR = "near-duplicate"
NearBy = tuple[pa.Table, Ints, Ints, Ints]  # known by preference, their order by fingerprint, keepers, roots


class Duplicates:
    """Finds duplicates among candidates, which `exchange` brings together.

    drop: leave out what is the same, near: and what nearly is. What belongs together is also told
    in `links`: pairs of draws (see marks.py) that must share a split. distance: bits between fingerprints of
    near-duplicates; 0: exact ones only.
    """

    def __init__(
        self, folder: Path, rows: int, decisions: Decisions, *, drop: bool, near: bool = True,
        reason: str = "same-bytes", distance: int = 0, exchange: Exchanges = OnDisk,
    ) -> None:  # fmt: skip
        self.links: list[Values] = []  # each (n, 2)
        self._decisions, self._reason, self._distance = decisions, reason, distance
        self._kept = () if drop and near else (NEAR,) if drop else (NEAR, reason)
        self._folder, self._rows = folder, rows
        self._same = exchange(folder / "same", CANDIDATE, rows)
        self._near = exchange(folder / "near", CANDIDATE, rows) if distance else None

    def add(self, candidates: pa.Table) -> None:
        """More candidates, as CANDIDATE."""
        self._same.add(candidates, _numbers(candidates, "a"))
        if self._near is not None:
            # A fingerprint of 0 says there is nothing to compare: no structure, no points.
            seen = candidates.filter(pc.not_equal(candidates["fingerprint"], pa.scalar(0, pa.uint64())))
            self._near.add(seen, mixed(_numbers(seen, "fingerprint")))

    def find(self) -> Iterator[pa.Table]:
        """Decide, and give CLUSTERS part by part. To be called once, when every candidate is there."""
        yield from self._in_order("found-same", self._same.map(_find_same, self._reason, last=True))
        if self._near is not None:
            yield from self._in_order("found-near", _find_near(self._near, self._distance))

    def _in_order(self, name: str, parts: Iterator[pa.Table]) -> Iterator[pa.Table]:
        """Of parts as FOUND, whoever found them: settled, and as CLUSTERS."""
        spill = Spill(self._folder / name, FOUND, num_buckets(self._rows))
        for part in parts:
            self._settle(part)
            spill.add(part, bucket_of(_numbers(part, "number"), spill.buckets))
        for bucket in spill.drain():
            yield bucket.sort_by("number").select(CLUSTERS.names)  # of one number they come in their order

    def _settle(self, found: pa.Table) -> None:
        links = np.stack([_numbers(found, "draw"), _numbers(found, "with")], axis=1)
        self.links.append(np.unique(links[links[:, 0] != links[:, 1]], axis=0))
        kept = pc.or_(found["stays"], pc.is_in(found["reason"], pa.array(self._kept, pa.string())))
        if len(gone := np.flatnonzero(~kept.to_numpy())):
            dropped = found.take(pa.array(gone))
            names, reasons, bits = (dropped[name].to_pylist() for name in ("of", "reason", "distance"))
            details = [
                f"of {name}" if reason != NEAR else f"of {name}, {bit} of 64 bits differ"
                for name, reason, bit in zip(names, reasons, bits, strict=True)
            ]
            self._decisions.drop(dropped["row"].to_numpy(), "duplicate", reasons, details)


def _find_same(table: pa.Table, reason: str) -> pa.Table:
    """Of a part: those that are there more than once, as FOUND."""
    a, b = _numbers(table, "a"), _numbers(table, "b")
    table = table.take(pa.array(np.flatnonzero(_repeated(a, b))))
    if not table.num_rows:
        return FOUND.empty_table()
    table = table.sort_by([("a", "ascending"), ("b", "ascending"), ("piece", "ascending"), *PREFERENCE])
    a, b, piece = (_numbers(table, name) for name in ("a", "b", "piece"))
    given = table["given"].to_numpy()
    places = np.arange(len(a))
    new = starts(a, b)
    group = np.cumsum(new) - 1
    every = given & (piece == 0)  # of an object that is there: any piece of it is
    first_given = np.minimum.reduceat(np.where(every, places, len(a)), np.flatnonzero(new))[group]
    first = np.maximum.accumulate(np.where(starts(a, b, piece), places, 0))
    keeper = np.where(given, places, np.where(first_given < len(a), first_given, first))
    root = np.minimum(first_given, places[new][group])
    return _found(table, table, keeper, root, a, np.zeros(len(a), np.int8), reason, a)


def _find_near(candidates: Exchange, distance: int) -> Iterator[pa.Table]:
    """As FOUND, part by part."""
    pairs = [np.stack(pair, axis=1) for pair in candidates.near("fingerprint", distance)]
    edges = np.concatenate(pairs) if pairs else np.empty((0, 2), np.uint64)
    best = candidates.map(_best, np.unique(edges))
    known = pa.concat_tables([CANDIDATE.empty_table(), *best]).combine_chunks()
    known = known.sort_by([*PREFERENCE, ("fingerprint", "ascending")])
    order = np.argsort(prints := _numbers(known, "fingerprint"))
    left, right = (order[np.searchsorted(prints, edges[:, i], sorter=order)] for i in (0, 1))
    keeper = keepers(left, right, len(prints), known["given"].to_numpy())
    near_by: NearBy = (known, order, keeper, components(left, right, len(prints)))
    return candidates.map(_settled, near_by, last=True)


def _best(table: pa.Table, nodes: Values) -> pa.Table:
    """The candidate of each of these fingerprints that is preferred."""
    table = table.take(pa.array(np.flatnonzero(is_in(_numbers(table, "fingerprint"), nodes))))
    table = table.sort_by([("fingerprint", "ascending"), *PREFERENCE])
    return table.take(pa.array(np.flatnonzero(starts(_numbers(table, "fingerprint")))))


def _settled(table: pa.Table, near_by: NearBy) -> pa.Table:
    """Of a part: those whose fingerprint is near another one, or comes more than once, as FOUND."""
    known, order, keeper, root = near_by
    nodes = _numbers(known, "fingerprint")[order]
    prints = _numbers(table, "fingerprint")
    table = table.take(pa.array(np.flatnonzero(is_in(prints, nodes) | _repeated(prints))))
    if not table.num_rows:
        return FOUND.empty_table()
    table = table.sort_by([("fingerprint", "ascending"), *PREFERENCE])
    prints = _numbers(table, "fingerprint")
    chosen, roots, stays = settled(prints, nodes, order, keeper, root)
    stays |= table["given"].to_numpy()
    chosen = np.where(stays, np.arange(len(prints)), chosen)
    both = pa.concat_tables([table, known]).combine_chunks()
    every = _numbers(both, "fingerprint")
    distance = np.bitwise_count(prints ^ every[chosen]).astype(np.int8)
    return _found(table, both, chosen, roots, every[roots], distance, NEAR, mixed(prints))


def _found(
    table: pa.Table, others: pa.Table, keeper: Ints, root: Ints, cluster: Values, distance: NDArray[np.int8],
    reason: str, number: Values,
) -> pa.Table:  # fmt: skip
    """Rows of a table as FOUND. keeper, root: places in `others`, which begins with the table."""
    count = table.num_rows
    columns: dict[str, Any]
    columns = {
        "cluster": [f"{number:016x}" for number in cluster.tolist()],
        "stays": keeper == np.arange(count), "of": others["name"].take(pa.array(keeper)),
        "reason": [reason] * count, "distance": distance, "with": others["draw"].take(pa.array(root)),
        "number": number,
    }  # fmt: skip
    chosen = [columns[f.name] if f.name in columns else table[f.name] for f in FOUND]
    return pa.table([_array(c, f.type) for c, f in zip(chosen, FOUND, strict=True)], schema=FOUND)


def _repeated(*columns: NDArray[Any]) -> NDArray[np.bool_]:
    """Which rows are there more than once."""
    order = np.lexsort(columns)
    new = starts(*(column[order] for column in columns))
    alone = new & np.append(new[1:], True)
    repeated = np.empty(len(order), bool)
    repeated[order] = ~alone
    return repeated


def _numbers(table: pa.Table, name: str) -> NDArray[np.uint64]:
    numbers: NDArray[np.uint64] = table[name].to_numpy()
    return numbers


def _array(values: Any, type_: pa.DataType) -> pa.Array:
    return values.cast(type_) if isinstance(values, pa.ChunkedArray) else pa.array(values, type_)
