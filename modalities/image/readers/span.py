"""Random access to the bytes of one object, in memory or on disk, that notices its end."""

from typing import BinaryIO

from modalities.base import BadSample

CHUNK = 1 << 20
END = 256  # bytes at the end that are looked through first


class Span:
    """The bytes of an object. Reading past the end is BadSample("truncated"), never a short answer."""

    def __init__(
        self, size: int, *, data: bytes | memoryview | None = None, file: BinaryIO | None = None
    ) -> None:
        self.size, self._data, self._file = size, data, file

    def at(self, offset: int, length: int) -> bytes:
        """Exactly `length` bytes from `offset`."""
        if offset < 0 or length < 0 or offset + length > self.size:
            raise BadSample("truncated", f"wants bytes {offset}..{offset + length} of a file of {self.size}")
        if self._data is not None:
            return bytes(self._data[offset : offset + length])
        assert self._file is not None
        self._file.seek(offset)
        got = self._file.read(length)
        if len(got) != length:
            raise BadSample("truncated", f"file ended at {offset + len(got)}, it had {self.size}")
        return got

    def uint(self, offset: int, length: int, order: str = "big") -> int:
        """Unsigned integer of `length` bytes; order is "big" or "little"."""
        return int.from_bytes(self.at(offset, length), "little" if order == "little" else "big")

    def holds(self, mark: bytes, start: int) -> bool:
        """Whether `mark` occurs at or after `start`; looks from the end, where end marks are."""
        stop, step = self.size, END
        while stop > start:
            begin = max(start, stop - step)
            if self.at(begin, min(stop + len(mark) - 1, self.size) - begin).rfind(mark) >= 0:
                return True
            stop, step = begin, CHUNK
        return False

    def count(self, mark: bytes, start: int) -> int:
        """How often a two-byte `mark` that cannot overlap itself occurs at or after `start`."""
        if isinstance(self._data, bytes):
            return self._data.count(mark, start)
        total = 0
        for begin in range(start, self.size, CHUNK):
            total += self.at(begin, min(CHUNK + len(mark) - 1, self.size - begin)).count(mark)
        return total
