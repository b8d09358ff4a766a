"""TIFF directories: the skeleton of TIFF files and of EXIF blocks.

Source: TIFF 6.0 (Adobe, 1992), sec. 2; BigTIFF as in libtiff.
"""

import struct
from dataclasses import dataclass

from modalities.base import BadSample
from modalities.image.readers.span import Span

MAX_ENTRIES = 4096
MAX_DIRECTORIES = 4096
MAX_VALUES = 1 << 20

SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}  # bytes of a value
SIZES |= {13: 4, 16: 8, 17: 8, 18: 8}
INTEGERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}


@dataclass(frozen=True)
class Entry:
    """One tag: where its values lie."""

    kind: int
    count: int
    offset: int


@dataclass(frozen=True)
class Tiff:
    """An opened TIFF structure; `order` is "<" or ">"."""

    span: Span
    order: str
    big: bool
    first: int  # offset of the first directory

    @classmethod
    def open(cls, span: Span) -> "Tiff":
        """Read the file header."""
        order = {b"II": "<", b"MM": ">"}.get(span.at(0, 2))
        if order is None:
            raise BadSample("corrupt", f"TIFF structure begins with {span.at(0, 2)!r}, want II or MM")
        (version,) = struct.unpack(order + "H", span.at(2, 2))
        if version == 42:
            return cls(span, order, False, *struct.unpack(order + "I", span.at(4, 4)))
        if version == 43 and struct.unpack(order + "HH", span.at(4, 4)) == (8, 0):
            return cls(span, order, True, *struct.unpack(order + "Q", span.at(8, 8)))
        raise BadSample("corrupt", f"TIFF version is {version}, want 42 or 43 (BigTIFF)")

    def directory(self, offset: int) -> dict[int, Entry]:
        """Tag -> entry of the directory at `offset`."""
        counter, width = ("Q", 20) if self.big else ("H", 12)
        size = struct.calcsize(self.order + counter)
        (count,) = struct.unpack(self.order + counter, self.span.at(offset, size))
        if not 0 < count <= MAX_ENTRIES:
            raise BadSample("corrupt", f"TIFF directory has {count} entries, want 1..{MAX_ENTRIES}")
        table = self.span.at(offset + size, count * width)
        link = "Q" if self.big else "I"
        entries: dict[int, Entry] = {}
        for at in range(0, len(table), width):
            tag, kind, number = struct.unpack_from(self.order + "HH" + link, table, at)
            inline = width - struct.calcsize(self.order + "HH" + link)
            if SIZES.get(kind, 0) * number <= inline:
                where = offset + size + at + width - inline
            else:
                (where,) = struct.unpack_from(self.order + link, table, at + width - inline)
            entries.setdefault(tag, Entry(kind, number, where))
        return entries

    def pages(self) -> int:
        """Number of directories in the main chain; a chain that bites itself is corrupt."""
        seen: set[int] = set()
        offset = self.first
        while offset:
            if offset in seen:
                raise BadSample("corrupt", f"TIFF directories form a loop at byte {offset}")
            seen.add(offset)
            if len(seen) > MAX_DIRECTORIES:
                raise BadSample("too-large", f"TIFF has more than {MAX_DIRECTORIES} directories")
            offset = self._next(offset)
        return len(seen)

    def _next(self, offset: int) -> int:
        """Offset of the directory after the one at `offset`, its entries unread; 0 when there is none."""
        counter, width, link = ("Q", 20, "Q") if self.big else ("H", 12, "I")
        size = struct.calcsize(self.order + counter)
        (count,) = struct.unpack(self.order + counter, self.span.at(offset, size))
        end, size = offset + size + count * width, struct.calcsize(self.order + link)
        if end + size > self.span.size:  # some writers end the file with the last directory
            return 0
        return int(struct.unpack(self.order + link, self.span.at(end, size))[0])

    def numbers(self, entry: Entry) -> tuple[int, ...]:
        """The values of an integer tag."""
        if entry.kind not in INTEGERS or entry.count > MAX_VALUES:
            raise BadSample("corrupt", f"TIFF tag of type {entry.kind} x {entry.count}, want integers")
        data = self.span.at(entry.offset, SIZES[entry.kind] * entry.count)
        return struct.unpack(f"{self.order}{entry.count}{INTEGERS[entry.kind]}", data)

    def blob(self, entry: Entry) -> bytes:
        """The values of a text or opaque tag, as bytes."""
        return self.span.at(entry.offset, SIZES.get(entry.kind, 1) * entry.count)
