"""A bare .npy cube (h, w, c)."""

import ast
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modalities.base import BadSample, Meta, Raw
from modalities.hyperspectral.schema import Facts, Scene, Window

SUFFIXES = (".npy",)
_DTYPE = re.compile(r"[<>|=]?([biufc]\d{1,2}|\?|[SU]\d{1,7})")  # no objects, no records


def matches(head: bytes) -> bool:
    """NumPy's magic."""
    return head[:6] == b"\x93NUMPY"


def header(head: bytes) -> tuple[np.dtype[Any], bool, tuple[int, ...], int]:
    """First bytes of a .npy -> dtype, column-major, shape, where the data start; BadSample."""
    wide = head[6:7] in (b"\x02", b"\x03")
    start = 12 if wide else 10
    length = int.from_bytes(head[8:start], "little")
    if head[:6] != b"\x93NUMPY" or length > len(head) - start:
        raise BadSample(
            "truncated", f"the .npy header claims {length:,} bytes, there are {len(head):,} in all"
        )
    try:
        fields = ast.literal_eval(head[start : start + length].decode("latin-1").strip())
        descr, fortran, shape = fields["descr"], fields["fortran_order"], fields["shape"]
        good = isinstance(fortran, bool) and all(type(n) is int and n >= 0 for n in shape)
    except (ValueError, SyntaxError, KeyError, TypeError, MemoryError, RecursionError) as error:
        raise BadSample("corrupt", f"the .npy header cannot be read: {error}") from error
    if not good or len(shape) > 4:
        raise BadSample("corrupt", f"want a shape of at most 4 sizes, got {shape!r}")
    if not isinstance(descr, str) or not _DTYPE.fullmatch(descr):
        raise BadSample("unsafe", f"want plain numbers or text in the .npy, got dtype {str(descr)[:60]!r}")
    return np.dtype(descr), fortran, tuple(shape), start + length


def size_of(dtype: np.dtype[Any], shape: tuple[int, ...]) -> int:
    """Bytes of the values."""
    return dtype.itemsize * int(np.prod(shape, dtype=object))


def _facts(raw: Raw) -> tuple[Facts, bool, int]:
    dtype, fortran, shape, start = header(raw.head(2**16))
    if len(shape) != 3:
        raise BadSample("unsupported", f"want a cube (h, w, c), got shape {shape}")
    wanted = start + size_of(dtype, shape)
    if raw.size != wanted:
        reason = "truncated" if raw.size < wanted else "corrupt"
        raise BadSample(reason, f"{raw.name} claims {wanted:,} bytes and has {raw.size:,}")
    facts = Facts(format="npy", shape=(shape[0], shape[1], shape[2]), dtype=dtype, interleave="bip")
    return facts.checked(raw.size), fortran, start


def probe(raw: Raw) -> Meta:
    """Header and size; BadSample."""
    return _facts(raw)[0].meta()


@contextmanager
def open(raw: Raw) -> Iterator[Scene]:
    """Memory-mapped when it is a file."""
    facts, fortran, start = _facts(raw)
    shape = facts.shape[::-1] if fortran else facts.shape
    flat: NDArray[Any]
    if isinstance(raw.content, Path):
        flat = np.memmap(raw.content, facts.dtype, "r", offset=start, shape=shape)
    else:
        flat = np.frombuffer(raw.content, facts.dtype, offset=start).reshape(shape)
    cube = flat.transpose() if fortran else flat

    def read(window: Window) -> NDArray[Any]:
        return cube[window.y : window.y + window.height, window.x : window.x + window.width]

    yield Scene(facts=facts, read=read)
