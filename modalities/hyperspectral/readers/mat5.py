"""MATLAB 5 .mat in plain Python: numeric arrays only; structs, cells and objects are stepped over."""

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from modalities.base import MAX_DECODED_BYTES, BadSample, Meta, Raw
from modalities.hyperspectral.readers import _choose, _matrix
from modalities.hyperspectral.schema import Scene

SUFFIXES = (".mat",)
MAX_VARIABLES = 4096
_STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_CLASSES = range(6, 16)  # double, single, int8 ... uint64
_MATRIX, _COMPRESSED = 14, 15
_HEADER = 128
Order = Literal["<", ">"]
_LEAD = 4096  # bytes of a variable that hold its flags, sizes and name


def matches(head: bytes) -> bool:
    """Version 1.0 (0x0100) and the endian mark at byte 124; 7.3 is HDF5."""
    return head[124:128] in (b"\x00\x01IM", b"\x01\x00MI")


@dataclass(frozen=True)
class _Element:
    """A variable in the file: where it lies, and what its first bytes say."""

    start: int
    size: int
    packed: bool
    name: str
    shape: tuple[int, ...]
    stored: np.dtype[Any]
    data: int  # where the values start, from the start of the (unpacked) element
    complex: bool


def _elements(raw: Raw, order: Order) -> Iterator[_Element]:
    """Numeric variables, from their heads alone."""
    at, count = _HEADER, 0
    with raw.open() as file:
        while at + 8 <= raw.size:
            file.seek(at)
            kind, size = struct.unpack(order + "II", file.read(8))
            if kind not in (_MATRIX, _COMPRESSED) and kind not in _STORED:
                raise BadSample("corrupt", f"want a variable at byte {at:,}, got element type {kind}")
            if at + 8 + size > raw.size:
                raise BadSample("truncated", f"a variable at {at:,} claims {size:,} bytes, there are fewer")
            count += 1
            if count > MAX_VARIABLES:
                raise BadSample("too-large", f"want at most {MAX_VARIABLES} variables")
            lead = file.read(min(size, _LEAD))
            found = None
            if kind == _COMPRESSED:
                lead = zlib.decompressobj().decompress(lead, _LEAD)
                if len(lead) >= 8 and struct.unpack(order + "I", lead[:4])[0] == _MATRIX:
                    found = _head(lead, 8, order)
            elif kind == _MATRIX:
                found = _head(lead, 0, order)
            if found is not None:
                name, shape, stored, data, is_complex = found
                yield _Element(at + 8, size, kind == _COMPRESSED, name, shape, stored, data, is_complex)
            at += 8 + size


def _sub(lead: bytes, at: int, order: Order) -> tuple[int, int, int, int]:
    """A sub-element -> type, size, where its data are, where the next starts; small data lie in the tag."""
    first, size = struct.unpack_from(order + "II", lead, at)
    if first >> 16:
        return first & 0xFFFF, first >> 16, at + 4, at + 8
    return first, size, at + 8, at + 8 + size + (-size % 8)


def _head(lead: bytes, at: int, order: Order) -> tuple[str, tuple[int, ...], np.dtype[Any], int, bool] | None:
    try:
        _, _, data, at = _sub(lead, at, order)
        (flags,) = struct.unpack_from(order + "I", lead, data)
        if flags & 0xFF not in _CLASSES:
            return None
        _, size, data, at = _sub(lead, at, order)
        if size % 4 or size > 128:
            return None
        shape = struct.unpack_from(f"{order}{size // 4}i", lead, data)
        _, size, data, at = _sub(lead, at, order)
        name = lead[data : data + size].decode("latin-1")
        if 0 in shape:
            return None
        kind, _, data, _ = _sub(lead, at, order)
    except struct.error:
        return None
    if min(shape, default=0) < 0 or kind not in _STORED:
        raise BadSample("corrupt", f"variable {name[:40]!r}: sizes {shape}, stored as type {kind}")
    return name, shape, np.dtype(_STORED[kind]).newbyteorder(order), data, bool(flags & 0x0800)


def _load(raw: Raw, element: _Element, order: Order) -> NDArray[Any]:
    """The whole variable, column-major; its values may be stored narrower than its class, and stay so."""
    count = int(np.prod(element.shape, dtype=object))
    wanted = element.data + count * element.stored.itemsize
    limit = wanted * (3 if element.complex else 1) + 64  # the imaginary part may be stored wider
    if limit > 2 * MAX_DECODED_BYTES:
        raise BadSample(
            "too-large", f"{element.name}: {count:,} values; want {MAX_DECODED_BYTES:,} bytes at most"
        )
    with raw.open() as file:
        file.seek(element.start)
        data = file.read(element.size)
    if element.packed:
        data = zlib.decompressobj().decompress(data, limit)
    if len(data) < wanted:
        raise BadSample("truncated", f"{element.name}: want {wanted:,} bytes, got {len(data):,}")
    values: NDArray[Any] = np.frombuffer(data, element.stored, count, element.data)
    if element.complex:
        after = wanted + (-(count * element.stored.itemsize) % 8 if element.data % 8 == 0 else 0)
        kind, _, start, _ = _sub(data, after, order)
        imaginary = np.frombuffer(data, np.dtype(_STORED[kind]).newbyteorder(order), count, start)
        values = values + 1j * imaginary
    return values.reshape(element.shape, order="F")


def _scene(raw: Raw) -> Scene:
    order: Order = "<" if raw.head(128)[126:128] == b"IM" else ">"
    loaded: dict[str, NDArray[Any]] = {}
    variables = [_variable(raw, element, order, loaded) for element in _elements(raw, order)]
    return _matrix.scene(variables, {}, format="mat5", stored=raw.size)


def _variable(raw: Raw, element: _Element, order: Order, loaded: dict[str, NDArray[Any]]) -> _choose.Variable:
    def read(keys: tuple[slice, ...]) -> NDArray[Any]:
        if element.name not in loaded:
            loaded[element.name] = _load(raw, element, order)
        return loaded[element.name][keys]

    dtype = np.dtype(np.complex128) if element.complex else element.stored
    return _choose.Variable(path=element.name, shape=element.shape, dtype=dtype, read=read)


def probe(raw: Raw) -> Meta:
    """Heads of the top-level variables, and the vectors that name bands; BadSample."""
    return _scene(raw).facts.meta()


@contextmanager
def open(raw: Raw) -> Iterator[Scene]:
    """A variable is loaded whole, once: the format has no windows."""
    yield _scene(raw)
