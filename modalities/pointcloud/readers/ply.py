"""PLY: a text header that names elements and properties, then ascii or binary rows."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modalities.base import BadSample, Meta, Raw
from modalities.pointcloud.schema import assemble, base_meta, check_size, layout

_HEADER_BYTES = 65536
_TYPES = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4",
    "double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4",
    "float32": "f4", "float64": "f8",
}  # fmt: skip
_ORDER = {"ascii": "=", "binary_little_endian": "<", "binary_big_endian": ">"}


@dataclass
class _Element:
    name: str
    count: int
    properties: list[
        tuple[str, str, bool]
    ]  # name, numpy type, is a list (then the type is that of its length)

    @property
    def stride(self) -> int:
        """Bytes of a row, or the least a row can have when it holds lists."""
        return sum(int(kind[1]) for _, kind, _ in self.properties)


@dataclass
class _Header:
    encoding: str
    size: int
    elements: list[_Element]

    def vertex(self) -> tuple[_Element, int]:
        """The vertex element and the rows (ascii) or bytes before it."""
        before = 0
        for element in self.elements:
            lists = any(is_list for _, _, is_list in element.properties)
            if element.name == "vertex":
                if lists:
                    raise BadSample(
                        "unsupported", "list properties in the vertex element; store them as numbers"
                    )
                if not element.properties:
                    raise BadSample("corrupt", "the vertex element has no properties")
                return element, before
            if lists and element.count and self.encoding != "ascii":
                raise BadSample(
                    "unsupported", f"lists in {element.name!r} before the vertices; put vertices first"
                )
            before += element.count * (1 if self.encoding == "ascii" else element.stride)
        raise BadSample("unsupported", f"no vertex element, only {[e.name for e in self.elements]}")


def _parse(head: bytes) -> _Header:
    end = head.find(b"end_header")
    stop = head.find(b"\n", end)
    if end < 0 or stop < 0:
        raise BadSample("truncated", f"no end_header line in the first {len(head)} bytes of the PLY")
    encoding, elements = "", list[_Element]()
    for line in head[:end].decode("latin-1").splitlines()[1:]:
        words = line.split()
        if not words or words[0] in ("comment", "obj_info"):
            continue
        try:
            match words:
                case ["format", name, "1.0"] if name in _ORDER:
                    encoding = name
                case ["element", name, count] if count.isascii() and count.isdigit() and len(count) < 19:
                    elements.append(_Element(name, int(count), []))
                case ["property", "list", length, _, name] if length in _TYPES:
                    elements[-1].properties.append((name, _TYPES[length], True))
                case ["property", kind, name] if kind in _TYPES:
                    elements[-1].properties.append((name, _TYPES[kind], False))
                case _:
                    raise BadSample("corrupt", f"a PLY header line that means nothing: {line[:80]!r}")
        except IndexError:
            raise BadSample("corrupt", f"a PLY property before any element: {line[:80]!r}") from None
    if not encoding:
        raise BadSample("corrupt", f"a PLY format line with one of {sorted(_ORDER)}, version 1.0, is missing")
    return _Header(encoding, stop + 1, elements)


def inspect(raw: Raw) -> Meta:
    """Check that the file is long enough for every row its header promises."""
    header = _parse(raw.head(_HEADER_BYTES))
    vertex, _ = header.vertex()
    rest = raw.size - header.size
    if header.encoding == "ascii":
        rows = sum(element.count for element in header.elements)
        have = (rest + 1) // 2  # a row has at least one digit and a line end
        need = rows
        if need <= have:
            have = count_lines(raw, header.size)
    else:
        need, have = sum(element.count * element.stride for element in header.elements), rest
    if need > have:
        raise BadSample(
            "truncated", f"the PLY header promises {need:,} rows or bytes, the file holds {have:,}"
        )
    if not vertex.count:
        raise BadSample("empty", "the PLY has no vertices")
    fields, point_bytes = layout((name, np.dtype(kind), 1) for name, kind, _ in vertex.properties)
    return base_meta("ply", vertex.count, fields, encoding=header.encoding, point_bytes=point_bytes)


def count_lines(raw: Raw, start: int) -> int:
    """Lines with something on them from byte `start` on; a last one without an end counts."""
    total, pending = 0, False
    with raw.open() as file:
        file.seek(start)
        while block := file.read(1 << 20):
            lines = block.split(b"\n")
            lines[0] = b"x" + lines[0] if pending else lines[0]
            total += sum(1 for line in lines[:-1] if line.strip())
            pending = bool(lines[-1].strip())
    return total + pending


def read(data: bytes) -> dict[str, NDArray[Any]]:
    """The vertices as fields; faces and other elements are left alone."""
    meta = inspect(Raw(name="x.ply", content=data))
    check_size(meta["num_points"], meta["point_bytes"])
    header = _parse(data[:_HEADER_BYTES])
    vertex, before = header.vertex()
    names = [f"f{i}" for i in range(len(vertex.properties))]
    if header.encoding == "ascii":
        table = _ascii_rows(data[header.size :], before, vertex)
        columns = [table[:, i].astype(kind) for i, (_, kind, _) in enumerate(vertex.properties)]
    else:
        order = _ORDER[header.encoding]
        kinds = [order + kind for _, kind, _ in vertex.properties]
        rows = np.frombuffer(
            data, np.dtype(list(zip(names, kinds, strict=True))), vertex.count, header.size + before
        )
        columns = [rows[name] for name in names]
    return assemble((name, column) for (name, _, _), column in zip(vertex.properties, columns, strict=True))


def numbers(body: bytes, first: int, count: int) -> NDArray[np.float64]:
    """Lines first..first + count - 1 of those with something on them, as a table."""
    lines = [line for line in body.split(b"\n") if line.strip()]
    return np.loadtxt(lines[first : first + count], np.float64, comments=None, ndmin=2)


def _ascii_rows(body: bytes, before: int, vertex: _Element) -> NDArray[np.float64]:
    table = numbers(body, before, vertex.count)
    if table.shape != (vertex.count, len(vertex.properties)):
        want = (vertex.count, len(vertex.properties))
        raise BadSample("corrupt", f"the ascii rows of the PLY have shape {table.shape}, wanted {want}")
    for i, (name, kind, _) in enumerate(vertex.properties):
        if kind[0] != "f":
            limit, column = np.iinfo(kind), table[:, i]
            if not np.all((column >= limit.min) & (column <= limit.max) & (column == np.floor(column))):
                raise BadSample("corrupt", f"{name} holds values that are no {np.dtype(kind)}")
    return table
