"""Plain USTAR, the same bytes for the same members: integer mtime 0, fixed owner, nothing of this machine."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import blake3
import crc32c

BLOCK = 512
END = bytes(2 * BLOCK)
MAX_MEMBER = 8**11 - 1  # what eleven octal digits hold: 8 GiB - 1
_FIXED = b"0000644\0" + b"0000000\0" * 2  # mode, uid, gid
_TAIL = b"ustar\00000" + bytes(32 + 32) + b"0000000\0" * 2  # magic, no owner names, device numbers


@dataclass(frozen=True)
class Member:
    """Where one file lies in a shard: `offset` of its first byte, and the checksum of its bytes."""

    name: str
    offset: int
    size: int
    crc32c: int


class TarWriter:
    """Appends members to an open binary file, and hashes what goes by."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = blake3.blake3()
        self.size = 0

    def add(self, name: str, content: bytes) -> Member:
        """Write one member; ValueError when its name or size does not fit USTAR."""
        self._write(header(name, len(content)))
        member = Member(name, self.size, len(content), crc32c.crc32c(content))
        self._write(content)
        self._write(bytes(-len(content) % BLOCK))
        return member

    def finish(self) -> str:
        """Write the end of the archive and return the BLAKE3 of the whole file, in hex."""
        self._write(END)
        digest: str = self._hash.hexdigest()
        return digest

    def _write(self, content: bytes) -> None:
        self._file.write(content)
        self._hash.update(content)
        self.size += len(content)


def header(name: str, size: int) -> bytes:
    """512 bytes that announce a regular file."""
    prefix, short = _split(name)
    if size > MAX_MEMBER:
        raise ValueError(
            f"{name} has {size:,} bytes, more than a USTAR member holds ({MAX_MEMBER:,}); cut it"
        )
    front = short.ljust(100, b"\0") + _FIXED + b"%011o\0" % size + b"00000000000\0"
    back = b"0" + bytes(100) + _TAIL + prefix.ljust(155, b"\0") + bytes(12)
    checksum = sum(front) + sum(back) + 8 * ord(" ")  # the field itself counts as spaces
    return front + b"%06o\0 " % checksum + back


def _split(name: str) -> tuple[bytes, bytes]:
    path = name.encode()
    if len(path) <= 100:
        return b"", path
    cut = path.rfind(b"/", 0, 156)
    if cut <= 0 or len(path) - cut - 1 > 100:
        raise ValueError(f"{name!r} does not fit a USTAR header (155 + 100 bytes, split at a slash)")
    return path[:cut], path[cut + 1 :]


def fits(name: str) -> bool:
    """Whether `name` can be written at all."""
    try:
        _split(name)
    except ValueError:
        return False
    return True


def walk(content: bytes | memoryview) -> Iterator[tuple[str, int, int]]:
    """(name, offset, size) of every member that `TarWriter` wrote; ValueError says where the tar breaks."""
    position = 0
    while True:
        block = bytes(content[position : position + BLOCK])
        if len(block) < BLOCK:
            raise ValueError(f"truncated: no end of archive after byte {position:,}")
        if not any(block):
            if bytes(content[position:]) != END:
                raise ValueError(f"the archive ends at byte {position:,}, but other bytes follow")
            return
        name = block[:100].rstrip(b"\0")
        if prefix := block[345:500].rstrip(b"\0"):
            name = prefix + b"/" + name
        try:
            text, size = name.decode(), int(block[124:135], 8)
            intact = header(text, size) == block
        except ValueError:
            intact = False
        if not intact:
            raise ValueError(f"damaged header at byte {position:,}")
        yield text, position + BLOCK, size
        position += BLOCK + size + -size % BLOCK
