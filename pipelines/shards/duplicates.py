"""Which samples are the same, or nearly: who stays, who is left out, and what belongs together."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipelines.shards.ahead import CORES, ahead
from pipelines.shards.decisions import Decisions
from pipelines.shards.spill import Spill, bucket_of, num_buckets
from pipelines.stages.dedup import Ints, components, is_in, keepers, mixed, near_pairs, settled, starts

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
PREFERENCE = [
    ("given", "descending"),
    ("num_bytes", "descending"),
    ("name", "ascending"),
    ("suffix", "ascending"),
]
NEAR_THREADS = min(CORES, 4)  # each holds 160 MiB of a large set


@dataclass
class Duplicates:
    """Finds duplicates among candidates. `report` takes the rows of CLUSTERS, part by part.

    drop: leave them out; else only say what belongs together, in `links`: pairs of draws (see marks.py) that
    must share a split. distance: bits between fingerprints of near-duplicates; 0: exact ones only.
    """

    folder: Path
    rows: int
    decisions: Decisions
    report: Callable[[pa.Table], None]
    drop: bool
    reason: str = "same-bytes"
    distance: int = 0
    links: list[NDArray[np.uint64]] = field(default_factory=list)  # each (n, 2)

    def __post_init__(self) -> None:
        buckets = num_buckets(self.rows)
        self._same = Spill(self.folder / "same", CANDIDATE, buckets)
        self._near = Spill(self.folder / "near", CANDIDATE, buckets) if self.distance else None

    def add(self, candidates: pa.Table) -> None:
        """More candidates, as CANDIDATE."""
        self._same.add(candidates, bucket_of(_numbers(candidates, "a"), self._same.buckets))
        if self._near is not None:
            # A fingerprint of 0 says there is nothing to compare: no structure, no points.
            seen = candidates.filter(pc.not_equal(candidates["fingerprint"], pa.scalar(0, pa.uint64())))
            self._near.add(seen, bucket_of(mixed(_numbers(seen, "fingerprint")), self._near.buckets))

    def find(self) -> None:
        """Decide. To be called once, when every candidate is there."""
        for bucket in self._same.drain():
            self._find_same(bucket)
        if self._near is not None:
            self._find_near(self._near)

    def _find_same(self, table: pa.Table) -> None:
        a, b = _numbers(table, "a"), _numbers(table, "b")
        table = table.take(pa.array(np.flatnonzero(_repeated(a, b))))
        if not table.num_rows:
            return
        table = table.sort_by([("a", "ascending"), ("b", "ascending"), ("piece", "ascending"), *PREFERENCE])
        a, b, piece = (_numbers(table, name) for name in ("a", "b", "piece"))
        given = table["given"].to_numpy()
        places = np.arange(len(a))
        new = starts(a, b)
        group = np.cumsum(new) - 1
        first_given = np.minimum.reduceat(np.where(given, places, len(a)), np.flatnonzero(new))[group]
        first = np.maximum.accumulate(np.where(starts(a, b, piece), places, 0))
        keeper = np.where(given, places, np.where(first_given < len(a), first_given, first))
        root = np.minimum(first_given, places[new][group])
        self._settle(table, keeper, root, a, np.zeros(len(a), np.int8), self.reason)

    def _find_near(self, spill: Spill) -> None:
        values, count = self.folder / "fingerprints", 0
        with values.open("wb") as file:
            for table in spill:
                found = np.unique(_numbers(table, "fingerprint"))
                file.write(found.tobytes())
                count += len(found)

        def blocks() -> Iterator[NDArray[np.uint64]]:
            with values.open("rb") as file:
                while len(block := np.fromfile(file, np.uint64, 2**20)):
                    yield block

        near = near_pairs(blocks, count, self.distance, partial(ahead, threads=NEAR_THREADS))
        pairs = [np.stack(pair, axis=1) for pair in near]
        edges = np.concatenate(pairs) if pairs else np.empty((0, 2), np.uint64)
        nodes = np.unique(edges)
        best = [_best(table, nodes) for table in spill]
        known = pa.concat_tables([CANDIDATE.empty_table(), *best]).combine_chunks().sort_by(PREFERENCE)
        order = np.argsort(prints := _numbers(known, "fingerprint"))
        left, right = (order[np.searchsorted(prints, edges[:, i], sorter=order)] for i in (0, 1))
        keeper = keepers(left, right, len(prints), known["given"].to_numpy())
        root = components(left, right, len(prints))
        for table in spill.drain():
            self._settle_near(table, known, order, keeper, root)

    def _settle_near(self, table: pa.Table, known: pa.Table, order: Ints, keeper: Ints, root: Ints) -> None:
        """Of one bucket: those whose fingerprint is near another one, or comes more than once."""
        nodes = _numbers(known, "fingerprint")[order]
        prints = _numbers(table, "fingerprint")
        table = table.take(pa.array(np.flatnonzero(is_in(prints, nodes) | _repeated(prints))))
        if not table.num_rows:
            return
        table = table.sort_by([("fingerprint", "ascending"), *PREFERENCE])
        prints = _numbers(table, "fingerprint")
        chosen, roots, stays = settled(prints, nodes, order, keeper, root)
        stays |= table["given"].to_numpy()
        chosen = np.where(stays, np.arange(len(prints)), chosen)
        both = pa.concat_tables([table, known]).combine_chunks()
        every = _numbers(both, "fingerprint")
        distance = np.bitwise_count(prints ^ every[chosen]).astype(np.int8)
        self._settle(table, chosen, roots, every[roots], distance, "near-duplicate", both)

    def _settle(
        self, table: pa.Table, keeper: Ints, root: Ints, cluster: NDArray[np.uint64],
        distance: NDArray[np.int8], reason: str, others: pa.Table | None = None,
    ) -> None:  # fmt: skip
        """keeper, root: places in `others` (by default the table itself)."""
        others = table if others is None else others
        places = np.arange(table.num_rows)
        stays = keeper == places
        of = others["name"].take(pa.array(keeper))
        words = [f"{number:016x}" for number in cluster.tolist()]
        reasons = [reason] * len(places)
        clusters = [words, table["name"], table["suffix"], stays, of, reasons, distance]
        self.report(
            pa.table([_array(c, f.type) for c, f in zip(clusters, CLUSTERS, strict=True)], schema=CLUSTERS)
        )
        draws = _numbers(others, "draw")
        links = np.stack([_numbers(table, "draw"), draws[root]], axis=1)
        self.links.append(np.unique(links[links[:, 0] != links[:, 1]], axis=0))
        gone = np.flatnonzero(~stays)
        if self.drop and len(gone):
            names, bits = of.take(pa.array(gone)).to_pylist(), distance[gone].tolist()
            details = [
                f"of {name}" if reason != "near-duplicate" else f"of {name}, {bit} of 64 bits differ"
                for name, bit in zip(names, bits, strict=True)
            ]
            self.decisions.drop(table["row"].to_numpy()[gone], "duplicate", [reason] * len(gone), details)


def _best(table: pa.Table, nodes: NDArray[np.uint64]) -> pa.Table:
    """The candidate of each of these fingerprints that is preferred."""
    table = table.take(pa.array(np.flatnonzero(is_in(_numbers(table, "fingerprint"), nodes))))
    table = table.sort_by([("fingerprint", "ascending"), *PREFERENCE])
    return table.take(pa.array(np.flatnonzero(starts(_numbers(table, "fingerprint")))))


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
