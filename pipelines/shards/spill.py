"""Tables larger than memory: rows go to buckets on disk, and come back a bucket at a time."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.shards.ahead import CORES, ahead

HELD_BYTES = 4 * 2**20  # in memory before they are written
BUCKET_BYTES = 2**15  # held of a bucket, about, if that is more
ROWS = 2**18  # of one bucket at most, about: what a step holds in memory
FEWER_ROWS, MANY = 2**14, 2**9  # of one bucket while there are not so many buckets: small jobs need little


class Spill:
    """Rows of one schema in `buckets` files. Who adds decides the bucket; a bucket keeps the order of adding.

    What fits into HELD_BYTES never touches the disk.
    """

    def __init__(
        self, folder: Path, schema: pa.Schema, buckets: int, *, bucket_bytes: int = BUCKET_BYTES
    ) -> None:
        self.schema, self.buckets = schema, buckets
        self.held_bytes = max(HELD_BYTES, buckets * bucket_bytes)
        self.rows = 0
        self._folder = folder
        self._held: list[tuple[pa.Table, NDArray[np.int64]]] = []
        self._size = 0
        self._spilled = False
        folder.mkdir(parents=True)

    def add(self, table: pa.Table, bucket: NDArray[np.integer]) -> None:
        """Append each row to the bucket it is given, an integer in [0, buckets)."""
        if not table.num_rows:
            return
        self._held.append((table, bucket.astype(np.int64)))
        self._size += table.nbytes
        self.rows += table.num_rows
        if self._size > self.held_bytes:
            self._flush()

    def _flush(self) -> None:
        def write(item: tuple[int, pa.Table, NDArray[np.int64]]) -> None:
            bucket, table, rows = item
            with (
                open(self._folder / f"{bucket}", "ab") as file,
                pa.ipc.new_stream(file, self.schema, options=_LZ4) as out,
            ):
                out.write_table(table.take(pa.array(rows)))

        for _ in ahead(write, _dealt(self._held, self.schema), CORES):  # rearranged, compressed
            pass
        self._held, self._size, self._spilled = [], 0, True

    def _take(self, bucket: int, columns: list[str] | None, *, keep: bool) -> pa.Table:
        """What was written for a bucket, as one chunk."""
        path, parts = self._folder / f"{bucket}", [_only(self.schema.empty_table(), columns)]
        fields = [self.schema.get_field_index(name) for name in columns or ()]
        if path.exists():
            with pa.OSFile(str(path), "rb") as file:
                while file.tell() < file.size():
                    stream = pa.ipc.open_stream(file, options=pa.ipc.IpcReadOptions(included_fields=fields))
                    parts.append(_only(stream.read_all(), columns))
            if not keep:
                path.unlink()
        return pa.concat_tables(parts).combine_chunks()

    def __iter__(self) -> Iterator[pa.Table]:
        """Every bucket in turn, as often as asked. Adding is over."""
        return self.each()

    def each(self, columns: list[str] | None = None) -> Iterator[pa.Table]:
        """Every bucket in turn, with these columns or all of them."""
        return self._each(columns, keep=True)

    def drain(self) -> Iterator[pa.Table]:
        """Every bucket in turn, for the last time: each leaves the disk when it is read."""
        return self._each(None, keep=False)

    def _each(self, columns: list[str] | None, *, keep: bool) -> Iterator[pa.Table]:
        if self._spilled:
            self._flush()
            yield from (self._take(bucket, columns, keep=keep) for bucket in range(self.buckets))
            return
        dealt = {
            bucket: _only(table, columns).take(pa.array(rows))
            for bucket, table, rows in _dealt(self._held, self.schema)
        }
        empty = _only(self.schema.empty_table(), columns)
        yield from (dealt.pop(bucket, empty) for bucket in range(self.buckets))

    def parts(self) -> Iterator[pa.Table]:
        """Everything as it was added, in parts of any size; of a single bucket in order. Adding is over."""
        for bucket in range(self.buckets):
            if (path := self._folder / f"{bucket}").exists():
                with pa.OSFile(str(path), "rb") as file:
                    while file.tell() < file.size():
                        yield pa.ipc.open_stream(file).read_all()
        yield from (table for table, _ in self._held)


def _only(table: pa.Table, columns: list[str] | None) -> pa.Table:
    return table if columns is None else table.select(columns)


_LZ4 = pa.ipc.IpcWriteOptions(compression="lz4")


def _dealt(
    held: list[tuple[pa.Table, NDArray[np.int64]]], schema: pa.Schema
) -> Iterator[tuple[int, pa.Table, NDArray[np.int64]]]:
    """Each bucket that gets rows, all that is held as one table, and which rows of it in their order."""
    if not held:
        return
    table = pa.concat_tables(table for table, _ in held).cast(schema).combine_chunks()
    numbers = np.concatenate([numbers for _, numbers in held])
    order = np.argsort(numbers, kind="stable")
    numbers = numbers[order]
    starts = np.flatnonzero(np.diff(numbers, prepend=-1))
    for start, end in zip(starts, [*starts[1:], len(numbers)], strict=True):
        yield int(numbers[start]), table, order[start:end]


def num_buckets(rows: int) -> int:
    """A power of two, so that a bucket of evenly spread rows holds about FEWER_ROWS; of very many, ROWS."""
    return max(1 << (rows // ROWS).bit_length(), min(1 << (rows // FEWER_ROWS).bit_length(), MANY))


def bucket_of(hashes: NDArray[np.uint64], buckets: int) -> NDArray[np.int64]:
    """The bucket of evenly spread 64-bit numbers, by their highest bits: in the order of the numbers."""
    bits = buckets.bit_length() - 1
    if bits == 0:
        return np.zeros(len(hashes), np.int64)
    return (hashes >> np.uint64(64 - bits)).astype(np.int64)
