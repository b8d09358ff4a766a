"""Rows brought together by a shuffle of Ray Data, which uses the cores, memory and disks of every node."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray

from pipelines.stages.dedup import Values, near_pairs

PART_ROWS = 2**18  # of a part, about: what a task holds
HELD_BYTES = 2**25  # of rows that were added, before they go to the object store
NUMBER = "__number__"


class Shuffle:
    """A pipelines.shards.exchange.Exchange done by all nodes. Tasks that are lost are done again."""

    def __init__(self, folder: Path, schema: pa.Schema, rows: int) -> None:
        del folder  # the object store spills to disks of its own
        self._schema, self._parts = schema, max(1, rows // PART_ROWS)
        self._held: list[pa.Table] = []
        self._added: list[Any] = []
        self._together: ray.data.Dataset | None = None

    @classmethod
    def of(cls, rows: ray.data.Dataset, schema: pa.Schema, count: int, number: str) -> "Shuffle":
        """About `count` rows of a dataset by a column of theirs."""
        shuffle = cls(Path(), schema, count)
        shuffle._together = rows.repartition(shuffle._parts, keys=[number]).materialize()
        return shuffle

    def add(self, table: pa.Table, numbers: Values) -> None:
        """More rows."""
        if table.num_rows:
            self._held.append(table.cast(self._schema).append_column(NUMBER, pa.array(numbers)))
        if sum(held.nbytes for held in self._held) > HELD_BYTES:
            self._put()

    def _put(self) -> None:
        if self._held:
            self._added.append(ray.put(pa.concat_tables(self._held).combine_chunks()))
            self._held = []

    def _rows(self) -> ray.data.Dataset | None:
        """In parts that have all rows of their numbers. A sort would not do: it cuts large parts."""
        self._put()
        if self._added:
            rows = ray.data.from_arrow_refs(self._added)
            self._together = rows.repartition(self._parts, keys=[NUMBER]).materialize()
            self._added = []
        return self._together

    def map(self, function: Callable[..., pa.Table], *given: Any, last: bool = False) -> Iterator[pa.Table]:
        """A task for every part; in whatever order they end."""
        rows = self._rows()
        if rows is None:
            return iter([function(self._schema.empty_table(), *given)])
        if last:
            self._together = None
        schema, shared = self._schema, ray.put(given)

        def one(part: pa.Table) -> pa.Table:
            return function(_only(part, schema), *ray.get(shared))

        return _tables(rows.map_batches(one, batch_size=None, batch_format="pyarrow"))

    def near(self, column: str, distance: int) -> Iterator[tuple[Values, Values]]:
        """The different values lie in the object store, 8 bytes each, and every task reads all of them."""
        rows = self._rows()
        if rows is None:
            return iter(())
        schema = self._schema

        def different(part: pa.Table) -> pa.Table:
            return pa.table({column: np.unique(_only(part, schema)[column].drop_null().to_numpy())})

        values = rows.map_batches(different, batch_size=None, batch_format="pyarrow").materialize()
        refs = values.to_arrow_refs()

        def blocks() -> Iterator[Values]:
            for ref in refs:
                if (table := ray.get(ref)).num_rows:
                    yield table[column].to_numpy()

        return near_pairs(blocks, values.count(), distance, _everywhere)


def _only(part: pa.Table, schema: pa.Schema) -> pa.Table:
    """An empty part of Ray Data has no columns."""
    return part.select(schema.names).cast(schema) if part.num_rows else schema.empty_table()


def _tables(found: ray.data.Dataset) -> Iterator[pa.Table]:
    batch: Any
    for batch in found.iter_batches(batch_size=None, batch_format="pyarrow"):
        if batch.num_rows:
            yield batch


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
