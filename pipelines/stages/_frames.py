"""How a worker and its sandbox talk: lengths, MessagePack, then bytes. Nothing in it can name code to run.

Small bytes of requests go over a shelf, a file in memory that both hold open: no call to lay them down and
one each to take them, where the line takes several and makes both sides wait for each other.
"""

import fcntl
import mmap
import os
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Any

import msgpack

from modalities.base import MAX_DECODED_BYTES

HEADER = struct.Struct("<IQ")  # bytes of the message, bytes of all blobs
MAX_MESSAGE_BYTES = 64 * 2**20  # a cut may plan a hundred thousand pieces
JOINED_BYTES = 8 * 2**20  # one copy costs less than many calls
MAX_BLOB_BYTES = 2 * MAX_DECODED_BYTES  # the files of one built sample

PLACES, PLACE_BYTES = 2, 8 * 2**20  # one to be taken from while the other is filled
_F_SEAL_FUTURE_WRITE = 0x10  # linux/fcntl.h

Receive = Callable[[int], bytes]  # exactly so many bytes, or it raises


class Garbled(ValueError):
    """What came is not a frame, or is larger than a frame may be."""


def frame(message: dict[str, Any], blobs: Sequence[bytes] = ()) -> list[bytes]:
    """The parts to send, in order; small ones in one. `blobs` come back in the same order."""
    sizes = [len(blob) for blob in blobs]
    # A file may be called what is no text; who gets an answer refuses it.
    packed = msgpack.packb({**message, "sizes": sizes}, unicode_errors="surrogatepass")
    parts = [HEADER.pack(len(packed), sum(sizes)), packed, *blobs]
    return [b"".join(parts)] if sum(sizes) < JOINED_BYTES else parts


def read_frame(receive: Receive, *, bounded: bool = True) -> tuple[dict[str, Any], list[bytes]]:
    """Message and blobs. `bounded` refuses what no honest sandbox sends, before memory is taken for it."""
    message_bytes, blob_bytes = HEADER.unpack(receive(HEADER.size))
    if bounded and (message_bytes > MAX_MESSAGE_BYTES or blob_bytes > MAX_BLOB_BYTES):
        raise Garbled(
            f"want at most {MAX_MESSAGE_BYTES:,} bytes of message and {MAX_BLOB_BYTES:,} of files, "
            f"got {message_bytes:,} and {blob_bytes:,}"
        )
    packed = receive(message_bytes)
    try:  # a half of a surrogate pair cannot be stored
        message = msgpack.unpackb(packed, unicode_errors="strict" if bounded else "surrogatepass")
    except ValueError as e:
        raise Garbled(f"want MessagePack: {e}") from e
    sizes = message.pop("sizes", None) if isinstance(message, dict) else None
    if not isinstance(sizes, list) or not all(type(size) is int and size >= 0 for size in sizes):
        raise Garbled("want an object that lists the sizes of its blobs")
    if sum(sizes) != blob_bytes:
        raise Garbled(f"want blobs of {blob_bytes:,} bytes, got a list of {sum(sizes):,}")
    return message, [receive(size) for size in sizes]


class Shelf:
    """A file in memory with PLACES of PLACE_BYTES each. Who gets it can read it, and that is all.

    Nobody can make it larger or smaller, and nobody but its maker can change what lies there.
    """

    def __init__(self, fd: int, memory: mmap.mmap | None = None) -> None:
        self.fd, self._memory = fd, memory

    @classmethod
    def new(cls) -> "Shelf | None":
        """None where the system has none (Linux before 5.1, others)."""
        if not sys.platform.startswith("linux"):
            return None
        fd = os.memfd_create("rayloom", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(fd, PLACES * PLACE_BYTES)
            memory = mmap.mmap(fd, PLACES * PLACE_BYTES)  # made before the seal: the last that may write
            seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | _F_SEAL_FUTURE_WRITE | fcntl.F_SEAL_SEAL
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
        except OSError:
            os.close(fd)
            return None
        return cls(fd, memory)

    def close(self) -> None:
        if self._memory is not None:
            self._memory.close()
        if self.fd >= 0:
            os.close(self.fd)
        self.fd, self._memory = -1, None

    def lay_down(self, blobs: Sequence[bytes], place: int) -> list[int] | None:
        """Put them there in place of what lay there: their sizes, or None if they do not fit."""
        sizes = [len(blob) for blob in blobs]
        if self._memory is None or sum(sizes) > PLACE_BYTES:
            return None
        at = place * PLACE_BYTES
        for blob, size in zip(blobs, sizes, strict=True):
            self._memory[at : at + size] = blob
            at += size
        return sizes

    def take(self, place: int, sizes: Sequence[int]) -> Iterator[bytes]:
        """What was laid down, one by one."""
        starts = accumulate(sizes, initial=place * PLACE_BYTES)
        return (os.pread(self.fd, size, at) for size, at in zip(sizes, starts, strict=False))
