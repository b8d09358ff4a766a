"""PCD of the Point Cloud Library, versions 0.6 and 0.7: ascii, binary, binary_compressed (LZF)."""

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modalities.base import BadSample, Meta, Raw
from modalities.pointcloud.readers.ply import count_lines, numbers
from modalities.pointcloud.schema import MAX_POINTS, assemble, base_meta, check_size, layout

_HEADER_BYTES = 65536
_KEYS = ("VERSION", "FIELDS", "SIZE", "TYPE", "COUNT", "WIDTH", "HEIGHT", "VIEWPOINT", "POINTS", "DATA")
_KINDS = {"I": "i", "U": "u", "F": "f"}
_MAX_LZF_RATIO = 132  # a back reference of 3 bytes makes at most 264, and 2 bytes make at most 8


@dataclass
class _Header:
    encoding: str
    size: int
    columns: list[tuple[str, np.dtype[Any], int]]  # name, type, values a point
    num_points: int
    width: int
    height: int
    viewpoint: list[float]

    @property
    def stride(self) -> int:
        return sum(dtype.itemsize * count for _, dtype, count in self.columns)


def _lines(head: bytes) -> tuple[dict[str, list[str]], int]:
    found: dict[str, list[str]] = {}
    position = 0
    while (end := head.find(b"\n", position)) >= 0:
        words = head[position:end].decode("latin-1").split()
        position = end + 1
        if not words or words[0].startswith("#"):
            continue
        if words[0].upper() not in _KEYS:
            raise BadSample("corrupt", f"a PCD header line that means nothing: {' '.join(words)[:80]!r}")
        found[words[0].upper()] = words[1:]
        if words[0].upper() == "DATA":
            return found, position
    raise BadSample("truncated", f"no DATA line in the first {len(head)} bytes of the PCD")


def _parse(head: bytes) -> _Header:
    found, size = _lines(head)
    missing = [key for key in ("FIELDS", "SIZE", "TYPE", "WIDTH", "HEIGHT") if key not in found]
    if missing:
        raise BadSample("corrupt", f"the PCD header lacks {missing}")
    try:
        names, kinds = found["FIELDS"], found["TYPE"]
        sizes = [int(word) for word in found["SIZE"]]
        counts = [int(word) for word in found.get("COUNT", ["1"] * len(names))]
        width, height = int(found["WIDTH"][0]), int(found["HEIGHT"][0])
        num_points = int(found.get("POINTS", [str(width * height)])[0])
        viewpoint = [float(word) for word in found.get("VIEWPOINT", [])]
        columns = [
            (name, np.dtype(f"<{_KINDS[kind]}{width_bytes}"), count)
            for name, kind, width_bytes, count in zip(names, kinds, sizes, counts, strict=True)
        ]
        (encoding,) = found["DATA"]
    except (ValueError, KeyError, IndexError, TypeError) as e:
        raise BadSample("corrupt", f"the PCD header does not add up: {e}") from e
    if encoding not in ("ascii", "binary", "binary_compressed"):
        raise BadSample(
            "unsupported", f"PCD data {encoding[:40]!r}; there are ascii, binary, binary_compressed"
        )
    if (
        any(not 1 <= count <= 4096 for count in counts)
        or min(width, height) < 0
        or num_points != width * height
    ):
        raise BadSample(
            "corrupt", f"PCD counts {counts}, {width} x {height} and {num_points} points do not agree"
        )
    return _Header(encoding, size, columns, num_points, width, height, viewpoint)


def inspect(raw: Raw) -> Meta:
    """Check that the file is long enough for the points its header promises."""
    header = _parse(raw.head(_HEADER_BYTES))
    rest, need = raw.size - header.size, header.num_points * header.stride
    if not header.num_points:
        raise BadSample("empty", "the PCD has no points")
    if header.encoding == "ascii":
        need, have = header.num_points, (rest + 1) // 2
        if need <= have:
            have = count_lines(raw, header.size)
    elif header.encoding == "binary":
        have = rest
    else:
        have = _compressed_bytes(raw, header)
    if need > have:
        raise BadSample(
            "truncated", f"the PCD header promises {need:,} rows or bytes, the file holds {have:,}"
        )
    fields, point_bytes = layout(_kept(header))
    return base_meta(
        "pcd", header.num_points, fields,
        encoding=header.encoding, width=header.width, height=header.height, point_bytes=point_bytes,
    )  # fmt: skip


def _compressed_bytes(raw: Raw, header: _Header) -> int:
    """Decoded size of the LZF block, after a check that the block is there and can be that large."""
    if header.num_points > MAX_POINTS:
        raise BadSample("too-large", f"{header.num_points:,} compressed points, more than {MAX_POINTS:,}")
    sizes = raw.head(header.size + 8)[header.size :]
    if len(sizes) < 8:
        raise BadSample("truncated", "the PCD ends before the sizes of its compressed block")
    packed, unpacked = struct.unpack("<II", sizes)
    if packed > raw.size - header.size - 8:
        raise BadSample("truncated", f"a compressed block of {packed:,} bytes, the file holds fewer")
    if unpacked != header.num_points * header.stride or unpacked > packed * _MAX_LZF_RATIO:
        raise BadSample("corrupt", f"{packed:,} compressed bytes cannot be {header.num_points:,} points")
    return int(unpacked)


def _kept(header: _Header) -> list[tuple[str, np.dtype[Any], int]]:
    """Columns without padding; packed colours as the four bytes they are."""
    out: list[tuple[str, np.dtype[Any], int]] = []
    for name, dtype, count in header.columns:
        if name.lower() in ("rgb", "rgba") and dtype.itemsize == 4 and count == 1:
            channels = ("red", "green", "blue", "alpha")[: len(name)]
            out += [(channel, np.dtype(np.uint8), 1) for channel in channels]
        elif name != "_":
            out.append((name, dtype, count))
    return out


def read(data: bytes) -> dict[str, NDArray[Any]]:
    """The points as fields; `viewpoint` (7,) translation and quaternion when it is not the origin."""
    meta = inspect(Raw(name="x.pcd", content=data))
    header = _parse(data[:_HEADER_BYTES])
    check_size(header.num_points, max(meta["point_bytes"], header.stride))
    columns = {"ascii": _ascii, "binary": _binary, "binary_compressed": _compressed}[header.encoding](
        header, data
    )
    named: list[tuple[str, NDArray[Any]]] = []
    for (name, dtype, count), column in zip(header.columns, columns, strict=True):
        if name.lower() in ("rgb", "rgba") and dtype.itemsize == 4 and count == 1:
            packed = np.ascontiguousarray(column).view("<u4")
            for channel, shift in (("red", 16), ("green", 8), ("blue", 0), ("alpha", 24))[: len(name)]:
                named.append((channel, (packed >> np.uint32(shift)).astype(np.uint8)))
        elif name != "_":
            named.append((name, column))
    arrays = assemble(named)
    if len(header.viewpoint) == 7 and header.viewpoint != [0, 0, 0, 1, 0, 0, 0]:
        arrays["viewpoint"] = np.array(header.viewpoint)
    return arrays


def _binary(header: _Header, data: bytes) -> list[NDArray[Any]]:
    row = np.dtype(
        [(f"f{i}", dtype, (n,) if n > 1 else ()) for i, (_, dtype, n) in enumerate(header.columns)]
    )
    rows = np.frombuffer(data, row, header.num_points, header.size)
    return [rows[name] for name in row.names or ()]


def _compressed(header: _Header, data: bytes) -> list[NDArray[Any]]:
    packed, unpacked = struct.unpack_from("<II", data, header.size)
    body = lzf_decompress(data[header.size + 8 : header.size + 8 + packed], unpacked)
    columns, position = list[NDArray[Any]](), 0
    for _, dtype, count in header.columns:  # field after field, not point after point
        column = np.frombuffer(body, dtype, header.num_points * count, position)
        position += column.nbytes
        columns.append(column.reshape(-1, count) if count > 1 else column)
    return columns


def _ascii(header: _Header, data: bytes) -> list[NDArray[Any]]:
    width = sum(count for _, _, count in header.columns)
    table = numbers(data[header.size :], 0, header.num_points)
    if table.shape != (header.num_points, width):
        want = (header.num_points, width)
        raise BadSample("corrupt", f"the ascii rows of the PCD have shape {table.shape}, wanted {want}")
    columns, position = list[NDArray[Any]](), 0
    for name, dtype, count in header.columns:
        values = table[:, position : position + count] if count > 1 else table[:, position]
        if dtype.kind != "f" and dtype.itemsize == 8:
            columns.append(_long_integers(data[header.size :], dtype, header.num_points, position, count))
        elif name.lower() in ("rgb", "rgba") and dtype == np.float32 and np.all(values == np.floor(values)):
            # Some writers print the packed integer, others the float with those bits: never whole.
            columns.append(values.astype("<u4").view("<f4"))
        elif dtype.kind != "f" and not np.all((values == np.floor(values)) & _holds(dtype, values)):
            raise BadSample("corrupt", f"{name} holds values that are no {dtype}")
        else:
            columns.append(values.astype(dtype))
        position += count
    return columns


def _holds(dtype: np.dtype[Any], values: NDArray[np.float64]) -> NDArray[np.bool_]:
    return (values >= np.iinfo(dtype).min) & (values <= np.iinfo(dtype).max)


def _long_integers(body: bytes, dtype: np.dtype[Any], rows: int, first: int, count: int) -> NDArray[Any]:
    """Nanoseconds since 1970 and the like, which float64 would round."""
    lines = [line for line in body.split(b"\n") if line.strip()][:rows]
    table = np.array([[int(word) for word in line.split()[first : first + count]] for line in lines], dtype)
    return table if count > 1 else table[:, 0]


def lzf_decompress(packed: bytes, size: int) -> bytes:
    """LibLZF: literal runs of up to 32 bytes, references up to 8 KiB back; gives exactly `size` bytes."""
    out = bytearray()
    position, end = 0, len(packed)
    while position < end:
        control = packed[position]
        position += 1
        if control < 32:
            out += packed[position : position + control + 1]
            position += control + 1
            continue
        length = control >> 5
        if length == 7:
            length += packed[position]
            position += 1
        start = len(out) - ((control & 31) << 8) - packed[position] - 1
        position += 1
        length += 2
        if start < 0 or len(out) + length > size:
            raise BadSample("corrupt", f"an LZF reference leaves the block at byte {position:,}")
        reach = len(out) - start
        if reach >= length:
            out += out[start : start + length]
        else:  # the reference overlaps what it writes: a repeated pattern
            out += (bytes(out[start:]) * (length // reach + 1))[:length]
    if len(out) != size:
        raise BadSample("corrupt", f"the LZF block holds {len(out):,} bytes, its header says {size:,}")
    return bytes(out)
