"""What LASzip's record and chunks say, checked before lazrs allocates what they ask for.

Source: laszip's `laszip.hpp` and `lasreadpoint.cpp`.
"""

import struct
from dataclasses import dataclass

from modalities.base import BadSample, Raw
from modalities.pointcloud.schema import MAX_POINTS

VARIABLE = 0xFFFFFFFF  # a chunk size that says: see the table
_ITEMS = (0, 6, 7, 8, 9, 10, 11, 12, 13, 14)
_LAYERED = 3  # compressor
_LAYERS = {10: 9, 11: 1, 12: 2, 13: 1}  # of an item type; type 14 has one a byte


@dataclass(frozen=True)
class Chunk:
    """A run of points that is compressed on its own."""

    at: int
    num_bytes: int
    num_points: int


def check(
    raw: Raw, record: bytes | None, points_at: int, record_bytes: int, num_points: int
) -> tuple[Chunk, ...]:
    """Refuse what cannot be; return the chunks, if they are of the layered kind that says its sizes.

    lazrs allocates what table and layers claim, up to 4 GiB each, and panics on items it does not know.
    """
    if record is None or len(record) < 34:
        raise BadSample("corrupt", "compressed points without a LASzip record")
    compressor, coder = struct.unpack_from("<HH", record)
    (chunk_size,) = struct.unpack_from("<I", record, 12)
    (num_items,) = struct.unpack_from("<H", record, 32)
    if len(record) != 34 + 6 * num_items or not num_items:
        raise BadSample("corrupt", f"a LASzip record of {len(record)} bytes for {num_items} items")
    items = [struct.unpack_from("<HHH", record, 34 + 6 * i) for i in range(num_items)]
    if compressor not in (2, _LAYERED) or coder != 0 or any(kind not in _ITEMS for kind, _, _ in items):
        raise BadSample(
            "unsupported", f"LASzip compressor {compressor}, coder {coder}, items {items}; want chunks"
        )
    if sum(size for _, size, _ in items) != record_bytes or chunk_size == 0:
        raise BadSample("corrupt", f"LASzip items {items} do not make records of {record_bytes} bytes")
    if any((kind >= 10) != (compressor == _LAYERED) for kind, _, _ in items):
        raise BadSample("corrupt", f"LASzip compressor {compressor} with items {items}")
    if num_points > MAX_POINTS:
        raise BadSample(
            "too-large", f"{num_points:,} compressed points, more than {MAX_POINTS:,}; split the file"
        )
    table_at, num_chunks = _table(raw, points_at)
    most = (table_at - points_at - 8) // record_bytes  # a chunk begins with a point as it is
    if not 1 <= num_chunks <= most or (chunk_size != VARIABLE and num_chunks != -(-num_points // chunk_size)):
        raise BadSample("corrupt", f"{num_chunks:,} chunks for {num_points:,} points; at most {most:,} fit")
    if compressor != _LAYERED:
        return ()
    layers = sum(size if kind == 14 else _LAYERS[kind] for kind, size, _ in items)
    return _walk(raw, points_at + 8, table_at, num_chunks, record_bytes, layers, num_points)


def _table(raw: Raw, points_at: int) -> tuple[int, int]:
    """Where the chunk table is and how many chunks it has."""
    with raw.open() as file:
        file.seek(points_at)
        at = file.read(8)
        table_at = struct.unpack("<q", at)[0] if len(at) == 8 else 0
        if table_at == -1:  # a writer that could not seek back put it at the very end
            file.seek(raw.size - 8)
            table_at = struct.unpack("<q", file.read(8))[0]
        if not points_at + 8 <= table_at <= raw.size - 8:
            raise BadSample("truncated", f"the chunk table is at byte {table_at:,} of {raw.size:,}")
        file.seek(table_at)
        return table_at, struct.unpack("<II", file.read(8))[1]


def _walk(
    raw: Raw, at: int, end: int, num_chunks: int, record_bytes: int, layers: int, num_points: int
) -> tuple[Chunk, ...]:
    """Chunks begin with one point, the number of points and the sizes of their layers."""
    found: list[Chunk] = []
    shape = struct.Struct(f"<I{layers}I")
    with raw.open() as file:
        for _ in range(num_chunks):
            file.seek(at + record_bytes)
            head = file.read(shape.size)
            if at + record_bytes + shape.size > end:
                raise BadSample("corrupt", f"{num_chunks:,} chunks do not fit before the chunk table")
            count, *sizes = shape.unpack(head)
            size = record_bytes + shape.size + sum(sizes)
            if at + size > end:
                raise BadSample(
                    "corrupt", f"a chunk of {size:,} bytes at byte {at:,} reaches over its table at {end:,}"
                )
            found.append(Chunk(at, size, count))
            at += size
    total = sum(chunk.num_points for chunk in found)
    if total != num_points or at != end or any(chunk.num_points == 0 for chunk in found):
        raise BadSample("corrupt", f"the header counts {num_points:,} points, the chunks {total:,}")
    return tuple(found)
