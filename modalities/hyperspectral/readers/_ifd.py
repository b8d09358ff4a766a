"""TIFF and BigTIFF directories in pure Python, every offset held against the size of the file."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal

import numpy as np

from modalities.base import BadSample

MAX_DIRECTORIES = 4096
MAX_ENTRIES = 4096
MAX_VALUES = 2**26  # bytes of one tag: the offsets of eight million blocks
_TYPES = {1: "u1", 2: "u1", 3: "u2", 4: "u4", 5: "u8", 6: "i1", 7: "u1", 8: "i2", 9: "i4", 10: "u8", 11: "f4"}
_TYPES |= {12: "f8", 13: "u4", 16: "u8", 17: "i8", 18: "u8"}


@dataclass(frozen=True)
class Tag:
    """Where the values of a tag lie."""

    kind: int
    count: int
    offset: int


@dataclass(frozen=True)
class Tiff:
    """An opened file: byte order, width of offsets, size."""

    file: BinaryIO
    order: Literal["<", ">"]
    big: bool
    size: int

    def values(self, tag: Tag) -> np.ndarray[Any, Any]:
        """All values of a tag, (count,)."""
        dtype = np.dtype(_TYPES[tag.kind]).newbyteorder(self.order)
        return np.frombuffer(self._at(tag.offset, tag.count * dtype.itemsize), dtype)

    def text(self, tag: Tag) -> str:
        """The values of an ASCII tag up to its first NUL."""
        return self.values(tag).tobytes().partition(b"\0")[0].decode("utf-8", "replace")

    def _at(self, offset: int, size: int) -> bytes:
        if size > MAX_VALUES:
            raise BadSample("too-large", f"a TIFF tag of {size:,} bytes; want at most {MAX_VALUES:,}")
        if offset + size > self.size:
            raise BadSample("truncated", f"want {size:,} bytes at {offset:,}, the file ends at {self.size:,}")
        self.file.seek(offset)
        return self.file.read(size)

    def whole(self, offset: int, size: int) -> int:
        """One unsigned number of 2, 4 or 8 bytes."""
        (value,) = struct.unpack(self.order + {2: "H", 4: "I", 8: "Q"}[size], self._at(offset, size))
        return int(value)

    def directories(self) -> Iterator[dict[int, Tag]]:
        """Every directory once; a chain that comes back on itself is refused."""
        wide, seen = (8 if self.big else 4), set[int]()
        offset = self.whole(8 if self.big else 4, wide)
        while offset:
            if offset in seen or len(seen) >= MAX_DIRECTORIES:
                raise BadSample(
                    "corrupt", f"the chain of TIFF directories loops or is over {MAX_DIRECTORIES} long"
                )
            seen.add(offset)
            tags, offset = self._directory(offset, wide)
            yield tags

    def _directory(self, offset: int, wide: int) -> tuple[dict[int, Tag], int]:
        lead = 8 if self.big else 2
        entry = 4 + 2 * wide
        count = self.whole(offset, lead)
        if count > MAX_ENTRIES:
            raise BadSample("corrupt", f"a TIFF directory of {count:,} entries; want at most {MAX_ENTRIES}")
        table = self._at(offset + lead, count * entry)
        tags: dict[int, Tag] = {}
        for start in range(0, len(table), entry):
            form = self.order + ("HHQ" if self.big else "HHI")
            code, kind, number = struct.unpack_from(form, table, start)
            if kind not in _TYPES:
                continue
            inline = offset + lead + start + 4 + wide
            size = number * np.dtype(_TYPES[kind]).itemsize
            tags.setdefault(code, Tag(kind, number, inline if size <= wide else self.whole(inline, wide)))
        return tags, self.whole(offset + lead + len(table), wide)


def opened(file: BinaryIO, size: int) -> Tiff:
    """The header of a TIFF; BadSample."""
    file.seek(0)
    head = file.read(8)
    if len(head) < 8 or head[:2] not in (b"II", b"MM"):
        raise BadSample("truncated", "want eight bytes of TIFF header")
    order: Literal["<", ">"] = "<" if head[:2] == b"II" else ">"
    return Tiff(file, order, struct.unpack_from(order + "H", head, 2)[0] == 43, size)
