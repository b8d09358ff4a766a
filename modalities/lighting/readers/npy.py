"""NumPy files of plain numbers, read without pickle and without trust in the header."""

import ast
import struct
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modalities.base import BadSample, Raw, check_decoded

MAX_HEADER_BYTES = 4096
TYPES = {"b1", "u1", "u2", "f2", "f4", "f8"}


@dataclass(frozen=True, kw_only=True)
class Header:
    """What stands before the numbers."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool
    offset: int  # bytes before the first number


def read_header(raw: Raw) -> Header:
    """Shape and type; BadSample unless they promise exactly the bytes that follow."""
    head = raw.head(12 + MAX_HEADER_BYTES)
    if not head:
        raise BadSample("empty", f"{raw.name} has no bytes")
    if len(head) < 12 or head[:6] != b"\x93NUMPY" or head[6] not in (1, 2, 3):
        raise BadSample("bad-npy", f"{raw.name} begins with {head[:8]!r}; want an .npy of version 1 to 3")
    start = 10 if head[6] == 1 else 12
    (length,) = struct.unpack("<H" if head[6] == 1 else "<I", head[8:start])
    text = head[start : start + length]
    if length > MAX_HEADER_BYTES or len(text) < length:
        raise BadSample("bad-npy", f"{raw.name} has a header of {length} bytes, {len(text)} are there")
    shape, dtype, fortran = _fields(raw.name, text)
    check_decoded(raw.name, shape, dtype.itemsize)
    rest = raw.size - start - length
    want = dtype.itemsize * int(np.prod(shape, dtype=object))
    if rest != want:
        raise BadSample(
            "bad-npy", f"{raw.name}: {shape} of {dtype} is {want:,} bytes, {rest:,} follow the header"
        )
    return Header(shape=shape, dtype=dtype, fortran=fortran, offset=start + length)


def _fields(name: str, text: bytes) -> tuple[tuple[int, ...], np.dtype[Any], bool]:
    try:
        fields = ast.literal_eval(text.decode("latin1").strip())
        shape, descr, fortran = fields["shape"], fields["descr"], fields["fortran_order"]
    except (SyntaxError, ValueError, KeyError, TypeError, RecursionError, MemoryError) as error:
        raise BadSample("bad-npy", f"{name}: header {text[:80]!r} is not a description") from error
    if not isinstance(descr, str) or descr[:1] not in "<>|=" or descr[1:] not in TYPES:
        raise BadSample("bad-npy", f"{name} holds {str(descr)[:40]}; want one of {sorted(TYPES)}")
    plain = isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape)
    if not plain or len(shape) > 8 or not isinstance(fortran, bool):
        raise BadSample("bad-npy", f"{name}: shape {str(shape)[:60]}, fortran_order {str(fortran)[:20]}")
    return shape, np.dtype(descr), fortran


def read(raw: Raw) -> NDArray[Any]:
    """The numbers, in C order and native byte order."""
    header = read_header(raw)
    data = np.frombuffer(raw.read(), header.dtype, offset=header.offset)
    array = data.reshape(header.shape, order="F" if header.fortran else "C")
    return np.array(array, header.dtype.newbyteorder("="), order="C")


def write(array: NDArray[Any]) -> bytes:
    """The same bytes for equal arrays."""
    if array.dtype.str[1:] not in TYPES:
        raise ValueError(f"want an array of one of {sorted(TYPES)}, got {array.dtype}")
    little = array.dtype.newbyteorder("<")
    np.save(out := BytesIO(), np.ascontiguousarray(array).astype(little, copy=False), allow_pickle=False)
    return out.getvalue()
