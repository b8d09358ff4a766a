"""Rows that belong together brought together: here on the disk of this machine."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from pipelines.shards.ahead import CORES, ahead
from pipelines.shards.spill import Spill, bucket_of, num_buckets
from pipelines.stages.dedup import Values, near_pairs

NEAR_THREADS = min(CORES, 4)  # each holds 160 MiB of a large set


class Exchange(Protocol):
    """Takes rows, each with an evenly spread number; rows of one number come back together.

    In how many parts and in what order decides nothing. pipelines.graphs.exchange does it on many machines.
    """

    def add(self, table: pa.Table, numbers: Values) -> None:
        """More rows, and the number of each."""

    def map(self, function: Callable[..., pa.Table], *given: Any, last: bool = False) -> Iterator[pa.Table]:
        """`function(part, *given)` of every part, perhaps elsewhere. last: nothing more will be asked."""

    def near(self, column: str, distance: int) -> Iterator[tuple[Values, Values]]:
        """Pairs of near values of a column, as pipelines.stages.dedup.near_pairs finds them.

        Equal values must have equal numbers.
        """


Exchanges = Callable[[Path, pa.Schema, int], Exchange]  # in a folder, of a schema, of about so many rows


class OnDisk:
    """An Exchange whose rows lie in buckets in a folder."""

    def __init__(self, folder: Path, schema: pa.Schema, rows: int) -> None:
        self._folder = folder
        self._spill = Spill(folder / "rows", schema, num_buckets(rows))

    def add(self, table: pa.Table, numbers: Values) -> None:
        """More rows."""
        self._spill.add(table, bucket_of(numbers, self._spill.buckets))

    def map(self, function: Callable[..., pa.Table], *given: Any, last: bool = False) -> Iterator[pa.Table]:
        """A bucket at a time."""
        return (function(bucket, *given) for bucket in (self._spill.drain() if last else self._spill))

    def near(self, column: str, distance: int) -> Iterator[tuple[Values, Values]]:
        """The different values lie in a file meanwhile, 8 bytes each."""
        path, count = self._folder / "values", 0
        with path.open("wb") as file:
            for bucket in self._spill.each([column]):
                values = np.unique(bucket[column].to_numpy())
                file.write(values.tobytes())
                count += len(values)

        def blocks() -> Iterator[Values]:
            with path.open("rb") as file:
                while len(block := np.fromfile(file, np.uint64, 2**20)):
                    yield block

        yield from near_pairs(blocks, count, distance, partial(ahead, threads=NEAR_THREADS))
        path.unlink()
