"""The indexes of the shards that are open, as columns: where each sample's files lie."""

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipelines.jsontext import loads
from pipelines.shards.dataset import Corrupt, Dataset
from pipelines.shards.manifest import Shard

UNLABELLED = -1
_COLUMNS = ["key", "files", "label"]
FEW = 64  # rows
_FOOTER = 2**16  # bytes read from the end of an index for its counts; longer footers take a second read


@dataclass(frozen=True, kw_only=True)
class Page:
    """The index of one shard. Members of sample i are rows first[i] : first[i + 1] of the member columns."""

    shard: Shard
    keys: pa.Array
    labels: NDArray[np.int64]  # class numbers, UNLABELLED where there is none
    first: NDArray[np.int64]
    extensions: list[str]  # what `kinds` counts in
    kinds: NDArray[np.int64]
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    sums: NDArray[np.int64]  # crc32c
    facts: pa.Table  # meta and quality, where somebody asked for them
    chosen: NDArray[np.int64] | None  # rows that take part; None: all

    def rows(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows of the index for numbers among those that take part."""
        return numbers if self.chosen is None else self.chosen[numbers]

    def key(self, row: int) -> str:
        text: str = self.keys[row].as_py()
        return text

    def some_keys(self, rows: NDArray[np.int64]) -> list[str]:
        """Keys of the rows. What Arrow needs to begin is more than what a few of them take one by one."""
        if len(rows) > FEW:
            found: list[str] = self.keys.take(rows).to_pylist()
            return found
        return [self.keys[row].as_py() for row in rows.tolist()]

    def members(self, row: int) -> list[tuple[str, int, int, int]]:
        """(extension, offset, size, crc32c) of one sample's files."""
        here = slice(self.first[row], self.first[row + 1])
        names = [self.extensions[kind] for kind in self.kinds[here].tolist()]
        columns = (c[here].tolist() for c in (self.offsets, self.sizes, self.sums))
        return list(zip(names, *columns, strict=True))

    def number(self, row: int, path: str) -> float:
        """See `lookup`."""
        meta = loads(self.facts["meta"][row].as_py())
        return lookup(self.key(row), path, meta, dict(self.facts["quality"][row].as_py() or ()))


def lookup(key: str, path: str, meta: Mapping[str, Any], quality: Mapping[str, float]) -> float:
    """The number that `path` names, "meta.gsd" or "quality.blur"; LookupError names those that are there."""
    value: Any = {"meta": meta, "quality": quality}
    for part in path.split("."):
        if not isinstance(value, Mapping) or part not in value:
            raise LookupError(f"sample {key} has no {path!r}; there are {sorted(meta)}")
        value = value[part]
    return float(value)


def read_page(dataset: Dataset, shard: Shard, *, labelled: bool = False, facts: bool = False) -> Page:
    """Read and verify one index."""
    table = dataset.index(shard, _COLUMNS + (["meta", "quality"] if facts else [])).combine_chunks()
    if table.num_rows != shard.samples:
        raise Corrupt(
            f"{shard.index_key} has {table.num_rows} rows, want {shard.samples}; run rayloom repair"
        )
    files = _one(table["files"])
    members = files.flatten()  # without the offset of a sliced list
    kinds = pc.dictionary_encode(members.field("name"))
    labels = _class_numbers(_one(table["label"]), dataset.class_numbers)
    lengths = files.value_lengths().to_numpy(zero_copy_only=False)
    return Page(
        shard=shard,
        keys=_one(table["key"]),
        labels=labels,
        first=np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]),
        extensions=kinds.dictionary.to_pylist(),
        kinds=_integers(kinds.indices),
        offsets=_integers(members.field("offset")),
        sizes=_integers(members.field("size")),
        sums=_integers(members.field("crc32c")),
        facts=table.select(["meta", "quality"] if facts else []),
        chosen=np.flatnonzero(labels != UNLABELLED) if labelled else None,
    )


def _one(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks else pa.array([], column.type)


def _integers(column: pa.Array) -> NDArray[np.int64]:
    return np.asarray(column.to_numpy(zero_copy_only=False), np.int64)


def _class_numbers(labels: pa.Array, numbers: Any) -> NDArray[np.int64]:
    coded = pc.dictionary_encode(labels)
    known = np.array([numbers[name] for name in coded.dictionary.to_pylist()] + [UNLABELLED], np.int64)
    return known[_integers(pc.fill_null(coded.indices, len(known) - 1))]


class Catalog:
    """Pages of the shards in use, at most `limit` of them; any thread may ask."""

    def __init__(
        self, dataset: Dataset, shards: Sequence[Shard], *, labelled: bool, facts: bool, limit: int
    ) -> None:
        self.dataset, self.shards, self.limit = dataset, shards, limit
        self._labelled, self._facts = labelled, facts
        self._pages: OrderedDict[int, Page] = OrderedDict()
        self._lock = threading.Lock()
        self._reading: dict[int, threading.Lock] = {}

    def __getitem__(self, number: int) -> Page:
        with self._lock:
            if page := self._pages.get(number):
                self._pages.move_to_end(number)
                return page
            reading = self._reading.setdefault(number, threading.Lock())
        with reading:
            with self._lock:
                if page := self._pages.get(number):
                    return page
            page = read_page(self.dataset, self.shards[number], labelled=self._labelled, facts=self._facts)
            with self._lock:
                self._pages[number] = page
                self._reading.pop(number, None)
                while len(self._pages) > self.limit:
                    self._pages.popitem(last=False)
        return page


def labelled_counts(dataset: Dataset, shards: Sequence[Shard]) -> NDArray[np.int64]:
    """Labelled samples of each shard, from the statistics at the end of its index."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8, thread_name_prefix="counts") as pool:
        return np.array(list(pool.map(lambda shard: _labelled(dataset, shard), shards)), np.int64)


def _labelled(dataset: Dataset, shard: Shard) -> int:
    size = dataset.storage.size(shard.index_key)
    if size is None:
        raise Corrupt(f"{shard.index_key} of {dataset.storage.url} is missing; run rayloom repair")
    footer = pq.read_metadata(BytesIO(_end(dataset, shard.index_key, size)))
    column = footer.schema.to_arrow_schema().get_field_index("label")
    nulls = 0
    for group in range(footer.num_row_groups):
        chunks = footer.row_group(group)
        leaf = next(i for i in range(chunks.num_columns) if chunks.column(i).path_in_schema == "label")
        statistics = chunks.column(leaf).statistics
        if column < 0 or statistics is None or not statistics.has_null_count:
            return int((read_page(dataset, shard).labels != UNLABELLED).sum())
        nulls += statistics.null_count
    return shard.samples - nulls


def _end(dataset: Dataset, key: str, size: int) -> bytes:
    tail = dataset.storage.get(key, max(0, size - _FOOTER), min(size, _FOOTER))
    need = int.from_bytes(tail[-8:-4], "little") + 8
    return tail if need <= len(tail) else dataset.storage.get(key, size - need, need)
