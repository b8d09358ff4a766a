"""NetCDF 3 (classic, 64-bit offset, 64-bit data) in plain Python, memory-mapped."""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modalities.base import BadSample, Meta, Raw
from modalities.hyperspectral.readers import _choose
from modalities.hyperspectral.schema import Scene

SUFFIXES = (".nc", ".nc3", ".cdf")
MAX_HEADER = 2**24
MAX_ITEMS = 4096
_TYPES = {
    1: "i1",
    2: "S1",
    3: ">i2",
    4: ">i4",
    5: ">f4",
    6: ">f8",
    7: "u1",
    8: ">u2",
    9: ">u4",
    10: ">i8",
    11: ">u8",
}


def matches(head: bytes) -> bool:
    """`CDF` and version 1, 2 or 5."""
    return head[:3] == b"CDF" and head[3:4] in (b"\x01", b"\x02", b"\x05")


class _Header:
    """Reads the big-endian fields of a header in order; running out of bytes is BadSample."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at, self.version = data, 4, data[3]

    def take(self, size: int) -> bytes:
        if size < 0 or self.at + size > len(self.data):
            raise BadSample(
                "truncated", f"the NetCDF header wants {size:,} bytes at {self.at:,}, there are fewer"
            )
        found = self.data[self.at : self.at + size]
        self.at += size + (-size % 4)
        return found

    def whole(self) -> int:
        return int(struct.unpack(">I", self.take(4))[0])

    def count(self) -> int:
        """Sizes are 8 bytes wide in version 5."""
        return int(struct.unpack(">Q", self.take(8))[0]) if self.version == 5 else self.whole()

    def offset(self) -> int:
        return self.whole() if self.version == 1 else int(struct.unpack(">Q", self.take(8))[0])

    def name(self) -> str:
        return self.take(self.count()).decode("utf-8", "replace")

    def items(self) -> int:
        """Length of a list, its tag read; absent lists are zero."""
        self.whole()
        count = self.count()
        if count > MAX_ITEMS:
            raise BadSample("too-large", f"want at most {MAX_ITEMS} entries in a NetCDF list, got {count:,}")
        return count

    def attributes(self) -> dict[str, Any]:
        found = {}
        for _ in range(self.items()):
            name, kind, count = self.name(), self.whole(), self.count()
            if kind not in _TYPES:
                raise BadSample("corrupt", f"attribute {name[:40]!r} has unknown type {kind}")
            dtype = np.dtype(_TYPES[kind])
            data = self.take(count * dtype.itemsize)
            value = data.rstrip(b"\0").decode("utf-8", "replace") if kind == 2 else np.frombuffer(data, dtype)
            found[name] = _choose.plain(value)
        return found


@dataclass(frozen=True)
class _Entry:
    """A variable of the header; `axes` are (name, length), length 0 being the records."""

    name: str
    axes: tuple[tuple[str, int], ...]
    attributes: dict[str, Any]
    dtype: np.dtype[Any]
    start: int

    @property
    def per_record(self) -> bool:
        return bool(self.axes) and self.axes[0][1] == 0

    @property
    def slab(self) -> int:
        """Bytes of the values, of one record where there are records."""
        return self.dtype.itemsize * int(np.prod([n for _, n in self.axes[self.per_record :]], dtype=object))


def _entry(header: _Header, dims: list[tuple[str, int]]) -> _Entry:
    name, count = header.name(), header.count()
    if count > 32:
        raise BadSample("corrupt", f"{name[:40]!r} has {count:,} axes")
    numbers = [header.count() for _ in range(count)]
    attributes = header.attributes()
    kind, _, start = header.whole(), header.count(), header.offset()
    if kind not in _TYPES or any(number >= len(dims) for number in numbers):
        raise BadSample("corrupt", f"{name[:40]!r} has type {kind} and dimensions {numbers} of {len(dims)}")
    axes = tuple(dims[number] for number in numbers)
    if any(length == 0 for _, length in axes[1:]):
        raise BadSample("corrupt", f"{name[:40]!r}: only the first dimension may be the records")
    return _Entry(name, axes, attributes, np.dtype(_TYPES[kind]), start)


def _scene(raw: Raw) -> Scene:
    header = _Header(raw.head(MAX_HEADER))
    records = header.count()
    dims = [(header.name(), header.count()) for _ in range(header.items())]
    attributes = header.attributes()
    entries = [_entry(header, dims) for _ in range(header.items())]
    changing = [entry for entry in entries if entry.per_record]
    if changing and records >= 2**32 - 1:
        raise BadSample("unsupported", "a NetCDF written as a stream does not say how many records it has")
    step = sum(entry.slab + (-entry.slab % 4 if len(changing) > 1 else 0) for entry in changing)
    variables = []
    for entry in entries:
        stride = step if entry.per_record else entry.slab
        count = records if entry.per_record else 1
        end = entry.start + stride * (count - 1) + entry.slab
        if count and end > raw.size:
            raise BadSample("truncated", f"{entry.name} ends at byte {end:,}, the file has {raw.size:,}")
        variables.append(_variable(raw, entry, records, stride))
    return _choose.scene(variables, attributes, format="netcdf3", stored=raw.size)


def _variable(raw: Raw, entry: _Entry, records: int, stride: int) -> _choose.Variable:
    shape = tuple(records if length == 0 else length for _, length in entry.axes)

    def read(keys: tuple[slice, ...]) -> NDArray[Any]:
        strides = [entry.dtype.itemsize * int(np.prod(shape[axis + 1 :])) for axis in range(len(shape))]
        if entry.per_record:
            strides[0] = stride
        source = np.memmap(raw.content, np.uint8, "r") if isinstance(raw.content, Path) else raw.content
        return np.ndarray(shape, entry.dtype, source, entry.start, tuple(strides))[keys]

    dims = tuple(name for name, _ in entry.axes)
    return _choose.Variable(
        path=entry.name, shape=shape, dtype=entry.dtype, read=read, attributes=entry.attributes, dims=dims
    )


def probe(raw: Raw) -> Meta:
    """The header, and the vectors that name bands and places; BadSample."""
    return _scene(raw).facts.meta()


@contextmanager
def open(raw: Raw) -> Iterator[Scene]:
    """Windows touch only the pages they need."""
    yield _scene(raw)
