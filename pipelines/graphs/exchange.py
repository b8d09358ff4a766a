"""Rows brought together by a shuffle of Ray Data, which uses the cores, memory and disks of every node."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from ray.data.context import ShuffleStrategy

from pipelines.shards.spill import bucket_of
from pipelines.stages.dedup import Values, mixed, near_pairs

PART_ROWS = 2**18  # of a part, about: what a task holds
HELD_BYTES = 2**25  # of rows that were added, before they go to the object store: of a task's input
ROW_BYTES = 2**7  # about
MOST_INPUTS = 2**9  # about: every input is divided among as many parts
BUCKET = "__bucket__"


class Shuffle:
    """A pipelines.shards.exchange.Exchange done by all nodes. A lost one costs time, at whatever moment.

    So rows are brought together anew for every question, and none lie on the nodes in between.
    """

    def __init__(self, folder: Path, schema: pa.Schema, rows: int) -> None:
        del folder  # the object store spills to disks of its own
        self._schema, self._buckets = schema, 1 << (rows // PART_ROWS).bit_length()
        self._input_bytes = max(HELD_BYTES, rows * ROW_BYTES // MOST_INPUTS)
        self._held: list[pa.Table] = []
        self._added: list[Any] = []
        self._given: ray.data.Dataset | None = None

    @classmethod
    def of(cls, rows: ray.data.Dataset, schema: pa.Schema, count: int, column: str) -> "Shuffle":
        """About `count` rows of a dataset, by a column of integers."""
        shuffle = cls(Path(), schema, count)

        def dealt(part: pa.Table) -> pa.Table:
            part = _only(part, schema)
            return shuffle._dealt(part, mixed(part[column].to_numpy()))

        shuffle._given = rows.map_batches(dealt, batch_size=None, batch_format="pyarrow").materialize()
        return shuffle

    def _dealt(self, table: pa.Table, numbers: Values) -> pa.Table:
        return table.append_column(BUCKET, pa.array(bucket_of(numbers, self._buckets)))

    def add(self, table: pa.Table, numbers: Values) -> None:
        """More rows."""
        if table.num_rows:
            self._held.append(self._dealt(table.cast(self._schema), numbers))
        if sum(held.nbytes for held in self._held) > self._input_bytes:
            self._put()

    def _put(self) -> None:
        if self._held:
            self._added.append(ray.put(pa.concat_tables(self._held).combine_chunks()))
            self._held = []

    def map(self, function: Callable[..., pa.Table], *given: Any, last: bool = False) -> Iterator[pa.Table]:
        """A task for every part; in whatever order they end."""
        self._put()
        if self._given is None and not self._added:
            yield function(self._schema.empty_table(), *given)
            return
        schema, shared = self._schema, ray.put(given)

        def one(part: pa.Table) -> pa.Table:
            return function(_only(part, schema), *ray.get(shared))

        rows = ray.data.from_arrow_refs(self._added) if self._given is None else self._given
        # The default, SHUFFLE_V2, of Ray 2.60 takes twice as long, and may wait forever when a node is lost.
        rows.context.shuffle_strategy = ShuffleStrategy.SORT_SHUFFLE_PULL_BASED
        found: Any = rows.groupby(BUCKET).map_groups(one, batch_format="pyarrow")
        for part in found.iter_batches(batch_size=None, batch_format="pyarrow"):
            if part.num_rows:
                yield part
        if last:  # not before: from these lost parts are made again
            self._added, self._given = [], None

    def near(self, column: str, distance: int) -> Iterator[tuple[Values, Values]]:
        """The different values lie in the object store, 8 bytes each, and every task reads all of them."""

        def different(part: pa.Table) -> pa.Table:
            return pa.table({column: np.unique(part[column].drop_null().to_numpy())})

        count, refs = 0, []
        for values in self.map(different):
            refs.append(ray.put(values[column].to_numpy()))  # here: no other node takes it along when it goes
            count += len(values)
        return near_pairs(lambda: map(ray.get, refs), count, distance, _everywhere)


def _only(part: pa.Table, schema: pa.Schema) -> pa.Table:
    """An empty part of Ray Data has no columns."""
    return part.select(schema.names).cast(schema) if part.num_rows else schema.empty_table()


def _everywhere(function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
    """`map`, a row an item, by whatever node has a core; in any order."""
    given = list(items)

    def one(row: dict[str, Any]) -> dict[str, Any]:
        found = function(given[row["id"]])
        return {
            side: np.concatenate([np.empty(0, np.uint64), *(p[i] for p in found)])
            for i, side in enumerate("ab")
        }

    for row in ray.data.range(len(given), override_num_blocks=len(given)).map(one).iter_rows():
        yield [(np.asarray(row["a"], np.uint64), np.asarray(row["b"], np.uint64))]
