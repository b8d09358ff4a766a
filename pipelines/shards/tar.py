"""Plain USTAR, the same bytes for the same members: integer mtime 0, fixed owner, nothing of this machine."""

from collections.abc import Iterator
from struct import Struct
from typing import BinaryIO, NamedTuple

import blake3
import crc32c

BLOCK = 512
END = bytes(2 * BLOCK)
MAX_MEMBER = 8**11 - 1  # what eleven octal digits hold: 8 GiB - 1
HELD_BYTES = 2**18  # that are hashed together: BLAKE3 is fastest on long, aligned pieces
WRITTEN_BYTES = 2**15  # together: for more Linux takes long pages, which a virtual machine may have to fetch
_FIXED = b"0000644\0" + b"0000000\0" * 2  # mode, uid, gid
_TIME = b"\0" + b"00000000000\0"  # the end of the size, and the time
# Type, link name, magic, no owner names, device numbers.
_TAIL = b"0" + bytes(100) + b"ustar\00000" + bytes(32 + 32) + b"0000000\0" * 2
_HEADER = Struct(
    f"100s{len(_FIXED)}s11s{len(_TIME)}s8s{len(_TAIL)}s167s"
)  # shorter texts are filled with zeros
_SUM = sum(_FIXED) + sum(_TIME) + sum(_TAIL) + 8 * ord(" ")  # the checksum itself counts as spaces


class Member(NamedTuple):
    """Where one file lies in a shard: `offset` of its first byte, and the checksum of its bytes."""

    name: str
    offset: int
    size: int
    crc32c: int


class TarWriter:
    """Appends members to an open binary file, and hashes what goes by. The file is whole after `finish`."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = blake3.blake3()
        self._buffer = memoryview(bytearray(HELD_BYTES))  # one, which stays in the processor's cache
        self._held = 0
        self.size = 0

    def add(self, name: str, content: bytes, head: bytes | None = None) -> Member:
        """Write one member; ValueError when its name or size does not fit USTAR. `head`: its header."""
        length = len(content)
        self._put(header(name, length) if head is None else head)
        member = Member(name, self.size + BLOCK, length, crc32c.crc32c(content))
        self._put(content)
        if padding := -length % BLOCK:
            self._put(END[:padding])
        self.size += BLOCK + length + padding
        return member

    def finish(self) -> str:
        """Write the end of the archive and return the BLAKE3 of the whole file, in hex."""
        self._put(END)
        self.size += len(END)
        self._write(self._buffer[: self._held])
        digest: str = self._hash.hexdigest()
        return digest

    def _put(self, content: bytes) -> None:
        """Hold it, and write whenever HELD_BYTES are there."""
        held, end = self._held, self._held + len(content)
        if end < HELD_BYTES:
            self._buffer[held:end] = content
            self._held = end
            return
        rest = memoryview(content)
        while held + len(rest) >= HELD_BYTES:
            room = HELD_BYTES - held
            self._buffer[held:] = rest[:room]
            self._write(self._buffer)
            rest, held = rest[room:], 0
        self._buffer[: len(rest)] = rest
        self._held = len(rest)

    def _write(self, part: memoryview) -> None:
        for start in range(0, len(part), WRITTEN_BYTES):
            self._file.write(part[start : start + WRITTEN_BYTES])
        self._hash.update(part)


def header(name: str, size: int) -> bytes:
    """512 bytes that announce a regular file."""
    prefix, short = _split(name)
    if size > MAX_MEMBER:
        raise ValueError(
            f"{name} has {size:,} bytes, more than a USTAR member holds ({MAX_MEMBER:,}); cut it"
        )
    digits = b"%011o" % size
    checksum = _SUM + sum(short) + sum(digits) + sum(prefix)
    return _HEADER.pack(short, _FIXED, digits, _TIME, b"%06o\0 " % checksum, _TAIL, prefix)


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
