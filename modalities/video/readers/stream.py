"""Reading a file of unknown honesty: every read is bounded, every shortage is a BadSample."""

from collections.abc import Iterator
from typing import BinaryIO, Literal

from modalities.base import BadSample
from modalities.video.schema import CORRUPT, MAX_BOXES, MAX_HEADER_BYTES, TOO_LARGE, TRUNCATED


class Stream:
    """A seekable file of known `size` that counts the boxes walked."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self.size, self._left = file, size, MAX_BOXES

    def read(self, start: int, count: int, what: str) -> bytes:
        """`count` bytes at `start`; BadSample when the header asks for too many, or the file ends first."""
        if count > MAX_HEADER_BYTES:
            raise BadSample(TOO_LARGE, f"{what} of {count:,} bytes, more than {MAX_HEADER_BYTES:,}")
        self._file.seek(start)
        data = self._file.read(count)
        if len(data) < count:
            raise BadSample(
                TRUNCATED, f"{what} at byte {start:,} wants {count:,} bytes, {len(data):,} are left"
            )
        return data

    def step(self) -> None:
        """Call once a box, so that a file of a billion empty boxes ends."""
        self._left -= 1
        if self._left < 0:
            raise BadSample(TOO_LARGE, f"more than {MAX_BOXES:,} boxes in one file")

    def fits(self, start: int, end: int, what: str) -> None:
        if end > self.size:
            raise BadSample(
                TRUNCATED, f"{what} at byte {start:,} reaches to {end:,}, the file ends at {self.size:,}"
            )


class Fields:
    """Integers of a header held in memory, all big-endian or all little-endian."""

    def __init__(self, data: bytes, what: str, *, little: bool = False) -> None:
        self.data, self.what = data, what
        self._order: Literal["little", "big"] = "little" if little else "big"

    def __len__(self) -> int:
        return len(self.data)

    def bytes(self, start: int, count: int) -> bytes:
        part = self.data[start : start + count]
        if len(part) < count or start < 0:
            raise BadSample(CORRUPT, f"{self.what} is {len(self.data)} bytes, wanted {count} at {start}")
        return part

    def uint(self, start: int, count: int = 4) -> int:
        return int.from_bytes(self.bytes(start, count), self._order)

    def sint(self, start: int, count: int = 4) -> int:
        return int.from_bytes(self.bytes(start, count), self._order, signed=True)


def walk_boxes(data: bytes, what: str, stream: Stream) -> Iterator[tuple[str, bytes]]:
    """(type, payload) of the ISO boxes in `data`; a box longer than its parent is corrupt."""
    at = 0
    while at + 8 <= len(data):
        stream.step()
        size, name, head = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8], 8
        if size == 1:
            size, head = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        elif size == 0:
            if name == b"\0\0\0\0":  # QuickTime ends some lists with four zero bytes, others pad
                return
            size = len(data) - at
        if size < head or at + size > len(data):
            raise BadSample(CORRUPT, f"box {name!r} of {size} bytes at {at} does not fit its parent {what}")
        yield name.decode("latin-1"), data[at + head : at + size]
        at += size
