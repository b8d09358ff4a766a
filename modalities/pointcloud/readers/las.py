"""LAS 1.0 to 1.4, LAZ and COPC: header and records checked here, points read by laspy with lazrs.

Source: ASPRS LAS 1.4 R15; LASzip VLR as in laszip's `laszip.hpp`; COPC 1.0.
"""

import json
import math
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from modalities.base import BadSample, Meta, Raw
from modalities.libraries import load
from modalities.pointcloud.readers import laszip
from modalities.pointcloud.schema import GLOBAL, assemble, base_meta, check_size, layout

CHUNK_POINTS = 64_000  # rows held at a time; a few megabytes, which stay in the cache
PLAIN_POINTS = 20_000  # of files read without laspy: half a megabyte of records stays near the core
RECORD_BYTES = (20, 28, 26, 34, 57, 63, 30, 36, 38, 59, 67)  # by point format
GEOKEY_RECORDS = {"directory": 34735, "doubles": 34736, "ascii": 34737}
_COLOURS = ("red", "green", "blue")
_WKT_RECORD = 2112
_MAX_RECORDS = 4096  # VLRs and EVLRs; files have a handful
_MAX_CRS_BYTES = 1 << 20

_LEGACY = ("intensity", "return_number", "number_of_returns", "scan_direction_flag", "edge_of_flight_line",
           "classification", "synthetic", "key_point", "withheld", "scan_angle_rank", "user_data",
           "point_source_id")  # fmt: skip
_MODERN = ("intensity", "return_number", "number_of_returns", "synthetic", "key_point", "withheld", "overlap",
           "scanner_channel", "scan_direction_flag", "edge_of_flight_line", "classification", "user_data",
           "scan_angle", "point_source_id", "gps_time")  # fmt: skip
_WAVE = (
    "wavepacket_index",
    "wavepacket_offset",
    "wavepacket_size",
    "return_point_wave_location",
    "x_t",
    "y_t",
    "z_t",
)


@dataclass(frozen=True)
class Header:
    """What this project needs of a LAS header and its records."""

    version: tuple[int, int]
    point_format: int
    compressed: bool
    num_points: int
    record_bytes: int
    points_at: int
    scale: tuple[float, ...]
    offset: tuple[float, ...]
    bounds: list[list[float]] | None
    global_encoding: int
    records: dict[tuple[str, int], bytes]
    is_copc: bool
    extra_names: tuple[str, ...]
    chunks: tuple[laszip.Chunk, ...] = ()  # of layered LAZ, point formats 6 to 10

    def dimensions(self) -> list[str]:
        """Names of the standard dimensions, x y z and colours too."""
        pf = self.point_format
        names = ["x", "y", "z", *(_LEGACY if pf < 6 else _MODERN)]
        names += ["gps_time"] if pf in (1, 3, 4, 5) else []
        names += ["red", "green", "blue"] if pf in (2, 3, 5, 7, 8, 10) else []
        names += ["nir"] if pf in (8, 10) else []
        return names + (list(_WAVE) if pf in (4, 5, 9, 10) else [])


def parse(raw: Raw) -> Header:
    """Read and check the header, every record before and after the points, and the chunk table."""
    head = raw.head(375)
    if head[:4] != b"LASF":
        raise BadSample("unknown-format", "a LAS file begins with LASF")
    if len(head) < 227:
        raise BadSample("truncated", f"a LAS header of {len(head)} bytes; it has at least 227")
    version = (head[24], head[25])
    if version[0] != 1 or version[1] > 4:
        raise BadSample("unsupported", f"LAS {version[0]}.{version[1]}; there are 1.0 to 1.4")
    header_bytes, points_at, num_records = struct.unpack_from("<HII", head, 94)
    least = {3: 235, 4: 375}.get(version[1], 227)
    if header_bytes < least or len(head) < least:
        raise BadSample(
            "corrupt", f"a LAS {version[0]}.{version[1]} header of {header_bytes} bytes, wanted {least}"
        )
    kind, record_bytes = struct.unpack_from("<BH", head, 104)
    point_format, compressed = kind & 0x3F, kind >= 0x80
    if point_format >= len(RECORD_BYTES):
        raise BadSample("unsupported", f"point format {point_format}; there are 0 to {len(RECORD_BYTES) - 1}")
    if record_bytes < RECORD_BYTES[point_format]:
        raise BadSample("corrupt", f"records of {record_bytes} bytes are too short for format {point_format}")
    modern = version[1] == 4
    num_points = struct.unpack_from("<Q", head, 247)[0] if modern else struct.unpack_from("<I", head, 107)[0]
    numbers = struct.unpack_from("<12d", head, 131)
    scale, offset = numbers[:3], numbers[3:6]
    if not all(map(math.isfinite, scale + offset)) or 0.0 in scale:
        raise BadSample("corrupt", f"scale {scale} and offset {offset} make no coordinates")
    if not num_points:
        raise BadSample("empty", "the LAS header counts no points")
    if not header_bytes <= points_at <= raw.size:
        raise BadSample("truncated", f"points begin at byte {points_at:,} of {raw.size:,}")
    records = _records(raw, header_bytes, points_at, num_records)
    if modern:
        evlrs_at, num_evlrs = struct.unpack_from("<QI", head, 235)
        records = _extended(raw, evlrs_at, num_evlrs) | records if num_evlrs else records
    # Bounds are stored max before min, axis by axis.
    box = [list(numbers[7::2]), list(numbers[6::2])]
    bounds = box if all(map(math.isfinite, numbers[6:])) else None
    extra = records.get(("LASF_Spec", 4), b"")
    extra_names = tuple(
        extra[i + 4 : i + 36].split(b"\0")[0].decode("utf-8", "replace")
        for i in range(0, len(extra) - 191, 192)
    )
    header = Header(
        version, point_format, compressed, num_points, record_bytes, points_at, scale, offset, bounds,
        struct.unpack_from("<H", head, 6)[0], records, ("copc", 1) in records, extra_names,
    )  # fmt: skip
    if compressed:
        record = records.get(("laszip encoded", 22204))
        chunks = laszip.check(raw, record, points_at, record_bytes, num_points)
        if header.is_copc:
            _check_copc(raw, records["copc", 1])
        return replace(header, chunks=chunks)
    if points_at + num_points * record_bytes > raw.size:
        have = (raw.size - points_at) // record_bytes
        raise BadSample("truncated", f"the header counts {num_points:,} points, the file holds {have:,}")
    return header


def _records(raw: Raw, start: int, stop: int, number: int) -> dict[tuple[str, int], bytes]:
    """Variable length records, all of which must lie before the points."""
    found: dict[tuple[str, int], bytes] = {}
    if number > _MAX_RECORDS or stop - start > 1 << 26:
        raise BadSample("corrupt", f"{number:,} records in {stop - start:,} bytes before the points")
    with raw.open() as file:
        file.seek(start)
        block = file.read(stop - start)
    position = 0
    for _ in range(number):
        if position + 54 > len(block):
            raise BadSample("corrupt", f"{number} records do not fit before the points")
        user, record, length = struct.unpack_from("<16sHH", block, position + 2)
        position += 54
        if position + length > len(block):
            raise BadSample("corrupt", f"record {record} of {length:,} bytes reaches into the points")
        found.setdefault((_text(user), record), block[position : position + length])
        position += length
    return found


def _extended(raw: Raw, start: int, number: int) -> dict[tuple[str, int], bytes]:
    """Records after the points; only those that may hold a CRS are read, COPC's hierarchy is stepped over."""
    found: dict[tuple[str, int], bytes] = {}
    if number > _MAX_RECORDS:
        raise BadSample("corrupt", f"{number:,} extended records")
    with raw.open() as file:
        for _ in range(number):
            file.seek(min(start, raw.size))
            head = file.read(60)
            if len(head) < 60:
                raise BadSample("truncated", f"an extended record at byte {start:,} of {raw.size:,}")
            user, record, length = struct.unpack_from("<16sHQ", head, 2)
            start += 60 + length
            if start > raw.size:
                raise BadSample("truncated", f"an extended record of {length:,} bytes leaves the file")
            if _text(user) == "LASF_Projection" and length <= _MAX_CRS_BYTES:
                found.setdefault((_text(user), record), file.read(length))
    return found


def _text(raw: bytes) -> str:
    return raw.split(b"\0")[0].decode("latin-1")


def _check_copc(raw: Raw, info: bytes) -> None:
    at, num_bytes = struct.unpack_from("<QQ", info, 40) if len(info) == 160 else (0, 0)
    if not num_bytes or at + num_bytes > raw.size:
        raise BadSample("corrupt", f"a COPC hierarchy of {num_bytes:,} bytes at byte {at:,} of {raw.size:,}")


def coordinate_system(header: Header) -> dict[str, str]:
    """`crs`: the WKT, or else EPSG:n or the GeoKeys as JSON; `geokeys`: that JSON whenever there are keys."""
    out: dict[str, str] = {}
    keys = {name: header.records.get(("LASF_Projection", n)) for name, n in GEOKEY_RECORDS.items()}
    if keys["directory"]:
        content = {
            "directory": np.frombuffer(keys["directory"][: len(keys["directory"]) // 2 * 2], "<u2").tolist(),
            "doubles": (keys["doubles"] or b"").hex(),
            "ascii": (keys["ascii"] or b"").decode("latin-1"),
        }
        out["geokeys"] = json.dumps(content)
    wkt = header.records.get(("LASF_Projection", _WKT_RECORD), b"").rstrip(b"\0 ")
    if wkt:
        out["crs"] = wkt.decode("utf-8", "replace")
    elif keys["directory"]:
        out["crs"] = _epsg(content["directory"]) or out["geokeys"]
    return out


def _epsg(directory: Sequence[int]) -> str | None:
    # Keys 3072 (projected) and 2048 (geographic) hold an EPSG code unless it is 32767, user-defined.
    for wanted in (3072, 2048):
        for i in range(4, len(directory) - 3, 4):
            key, where, _, value = directory[i : i + 4]
            if key == wanted and where == 0 and 1024 <= value < 32767:
                return f"EPSG:{value}"
    return None


def inspect(raw: Raw) -> Meta:
    """Header facts: bounds, point format, CRS, whether it is COPC."""
    header = parse(raw)
    kind = "copc" if header.is_copc and header.compressed else "laz" if header.compressed else "las"
    fields = list(_fields_of((*header.dimensions(), *header.extra_names)))
    crs = coordinate_system(header)
    return base_meta(
        kind, header.num_points, fields,
        bounds=header.bounds, crs=crs.get("crs"), point_format=header.point_format, is_copc=kind == "copc",
        version=f"{header.version[0]}.{header.version[1]}", scale=list(header.scale),
        offset=list(header.offset), point_bytes=_point_bytes(header),
    )  # fmt: skip


@lru_cache(maxsize=64)  # the files of one flight have the same
def _fields_of(names: tuple[str, ...]) -> list[str]:
    return layout([(name, np.dtype(np.float64), 1) for name in names])[0]


def _point_bytes(header: Header) -> int:
    extra = header.record_bytes - RECORD_BYTES[header.point_format]
    return 24 + RECORD_BYTES[header.point_format] + 8 * extra  # extra bytes may be scaled to float64


@contextmanager
def opened(raw: Raw) -> Iterator["Rows"]:
    """The points of a checked file, in pieces."""
    load("laspy", "lazrs")
    import laspy  # type: ignore[import-untyped, unused-ignore]

    header = parse(raw)
    options = {"laz_backend": laspy.LazBackend.Lazrs, "closefd": False, "read_evlrs": False}
    with raw.open() as file, laspy.open(file, **options) as reader:
        if header.chunks:
            _check_table(header, file)
        yield Rows(header, reader, file)


def _check_table(header: Header, file: BinaryIO) -> None:
    """Other readers go by the chunk table, so it has to say what the chunks say."""
    import lazrs  # type: ignore[import-untyped, unused-ignore]

    file.seek(header.points_at)
    table = lazrs.read_chunk_table(file, lazrs.LazVlr(header.records["laszip encoded", 22204]))
    if [size for _, size in table] != [chunk.num_bytes for chunk in header.chunks]:
        raise BadSample("corrupt", "the chunk table of the LAZ differs from its chunks")


class Rows:
    """Reads runs of points as fields; the file-wide fields come with each."""

    def __init__(self, header: Header, reader: Any, file: BinaryIO) -> None:
        self.header, self._reader, self._file = header, reader, file
        self._ends = np.cumsum([chunk.num_points for chunk in header.chunks])
        self._next = 0

    def read(self, start: int, stop: int) -> dict[str, NDArray[Any]]:
        """Points start..stop - 1."""
        return _fields(self.header, self._points(start, stop))

    def read_points(self, start: int, stop: int) -> NDArray[np.float64]:
        """Only the coordinates (n, 3)."""
        return _coordinates(self.header, self._points(start, stop).array)

    def runs(self) -> Iterator[tuple[int, int]]:
        """All points in pieces of about CHUNK_POINTS; of layered LAZ whole chunks, each unpacked once."""
        ends = self._ends if self.header.chunks else np.array([self.header.num_points])
        start = 0
        while start < self.header.num_points:
            stop = min(start + CHUNK_POINTS, self.header.num_points)
            if self.header.chunks:
                stop = int(ends[np.searchsorted(ends, stop)])
            yield start, stop
            start = stop

    def _points(self, start: int, stop: int) -> Any:
        if self.header.chunks:
            return self._layered(start, stop)
        if start != self._next:
            self._reader.seek(start)
        points = self._reader.read_points(stop - start)
        if len(points) != stop - start:
            raise BadSample("truncated", f"points {start:,} to {stop:,} were promised, {len(points):,} came")
        self._next = stop
        return points

    def _layered(self, start: int, stop: int) -> Any:
        """Whole chunks around the run: laspy seeks wrongly where chunks differ in size, as in COPC."""
        import laspy  # type: ignore[import-untyped, unused-ignore]
        import lazrs  # type: ignore[import-untyped, unused-ignore]

        first, last = np.searchsorted(self._ends, [start, stop - 1], side="right")
        chunks = self.header.chunks[first : last + 1]
        self._file.seek(chunks[0].at)
        packed = self._file.read(chunks[-1].at + chunks[-1].num_bytes - chunks[0].at)
        before = int(self._ends[first]) - chunks[0].num_points
        out = np.empty((int(self._ends[last]) - before) * self.header.record_bytes, np.uint8)
        table = [(chunk.num_points, chunk.num_bytes) for chunk in chunks]
        record = self.header.records["laszip encoded", 22204]
        lazrs.decompress_points_with_chunk_table(packed, record, out, table)
        form, scale, offset = self._reader.header.point_format, self.header.scale, self.header.offset
        rows = laspy.PackedPointRecord.from_buffer(out, form).array[start - before : stop - before]
        return laspy.ScaleAwarePointRecord(rows, form, np.array(scale), np.array(offset))


def _coordinates(
    header: Header, stored: NDArray[Any], out: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """(n, 3), each axis in one piece and as laspy has it: a product, then a sum."""
    out = np.empty((3, len(stored))).T if out is None else out
    for i, axis in enumerate("XYZ"):
        np.multiply(stored[axis], header.scale[i], out=out[:, i])
        out[:, i] += header.offset[i]
    return out


def _fields(header: Header, points: Any) -> dict[str, NDArray[Any]]:
    names = [name for name in points.point_format.dimension_names if name not in ("X", "Y", "Z")]
    columns = [(name, np.asarray(points[name])) for name in names]
    arrays = assemble(columns, points=_coordinates(header, points.array))
    return arrays | _of_all_points(header)


def _of_all_points(header: Header) -> dict[str, NDArray[Any]]:
    return {
        "scale": np.array(header.scale), "offset": np.array(header.offset),
        "point_format": np.array(header.point_format, np.uint8),
        "global_encoding": np.array(header.global_encoding, np.uint16),
        **{name: np.array(text) for name, text in coordinate_system(header).items()},
    }  # fmt: skip


def read(data: bytes) -> dict[str, NDArray[Any]]:
    """All dimensions, and of GLOBAL: `scale`, `offset` (3,), `point_format`, `global_encoding`, CRS texts."""
    out: dict[str, NDArray[Any]] = {}
    raw = Raw(name="x.laz", content=data)
    header = parse(raw)
    if _is_plain(header):
        return _spread(raw, header)
    with opened(raw) as rows:
        n = rows.header.num_points
        check_size(n, _point_bytes(rows.header))
        for start, stop in rows.runs():
            for name, values in rows.read(start, stop).items():
                if name in GLOBAL or len(values) == n:
                    out[name] = values
                else:
                    if name not in out:
                        out[name] = np.empty((n, *values.shape[1:]), values.dtype)
                    out[name][start:stop] = values
    return out


def _spread(raw: Raw, header: Header) -> dict[str, NDArray[Any]]:
    """What `read` gives of a plain file; every value goes from its record straight to its field."""
    load("laspy")
    import laspy  # type: ignore[import-untyped, unused-ignore]
    from laspy.point.dims import COMPOSED_FIELDS  # type: ignore[import-untyped, unused-ignore]

    n = header.num_points
    check_size(n, _point_bytes(header))
    form = laspy.PointFormat(header.point_format)
    names = [name for name in form.dimension_names if name not in ("X", "Y", "Z")]
    bits = {
        part.name: (whole, part.mask)
        for whole, parts in COMPOSED_FIELDS[header.point_format].items()
        for part in parts
    }
    stored = form.dtype()
    kinds = {name: stored[bits[name][0] if name in bits else name] for name in names}
    out = assemble(
        [(name, np.empty(n, kind)) for name, kind in kinds.items() if name not in _COLOURS],
        points=np.empty((n, 3)),
    )
    if colours := [name for name in names if name in _COLOURS]:
        out = {"points": out.pop("points"), "colors": np.empty((n, 3), kinds[colours[0]]), **out}
    start = 0
    for rows in _plain_runs(raw, header, stored):
        here = slice(start, start := start + len(rows))
        _coordinates(header, rows, out["points"][here])
        for name in names:
            if name in bits:
                whole, mask = bits[name]
                np.bitwise_and(rows[whole], mask, out=out[name][here])
                np.right_shift(out[name][here], (mask & -mask).bit_length() - 1, out=out[name][here])
            elif name in _COLOURS:
                out["colors"][here, _COLOURS.index(name)] = rows[name]
            else:
                out[name][here] = rows[name]
    return out | _of_all_points(header)


def look(data: bytes) -> dict[str, NDArray[Any]]:
    """`points` and `intensity` alone; everything is unpacked, and refused where `read` refuses it."""
    raw = Raw(name="x.laz", content=data)
    header = parse(raw)
    n = header.num_points
    check_size(n, _point_bytes(header))
    points, intensity, start = np.empty((3, n)).T, np.empty(n, np.uint16), 0
    # All point formats begin with these.
    names, formats, offsets = ["X", "Y", "Z", "intensity"], ["<i4", "<i4", "<i4", "<u2"], [0, 4, 8, 12]
    first = np.dtype(
        {"names": names, "formats": formats, "offsets": offsets, "itemsize": header.record_bytes}
    )
    for stored in _plain_runs(raw, header, first) if _is_plain(header) else _runs(raw):
        stop = start + len(stored)
        _coordinates(header, stored, points[start:stop])
        intensity[start:stop] = stored["intensity"]
        start = stop
    return {"points": points, "intensity": intensity}


def _is_plain(header: Header) -> bool:
    """Whether laspy would find nothing to refuse, so that the time to set it up, a tenth, can be saved.

    It refuses records of users that are not named in UTF-8, and extra bytes that are not as described.
    """
    extra = ("LASF_Spec", 4) in header.records or header.record_bytes != RECORD_BYTES[header.point_format]
    return not (extra or header.chunks) and all(user.isascii() for user, _ in header.records)


def _plain_runs(raw: Raw, header: Header, form: np.dtype[Any]) -> Iterator[NDArray[Any]]:
    """Records in runs, each gone when the next one comes."""
    load("lazrs")
    import lazrs  # type: ignore[import-untyped, unused-ignore]

    size = header.record_bytes
    memory = np.empty(min(PLAIN_POINTS, header.num_points) * size, np.uint8)
    with raw.open() as file:
        file.seek(header.points_at)
        packed = header.compressed and lazrs.LasZipDecompressor(file, header.records["laszip encoded", 22204])
        for start in range(0, header.num_points, PLAIN_POINTS):
            rows = memory[: (header.num_points - start) * size]
            if packed:
                packed.decompress_many(rows)
                yield rows.view(form)
            else:
                yield np.frombuffer(file.read(len(rows)), form)


def _runs(raw: Raw) -> Iterator[NDArray[Any]]:
    with opened(raw) as rows:
        for start, stop in rows.runs():
            stored: NDArray[Any] = rows._points(start, stop).array
            yield stored
