"""PNG: all chunk headers, and the few chunks that say how to read the pixels.

Source: PNG (third edition), W3C 2025, sec. 5, 11.
"""

import struct
import zlib
from collections.abc import Iterator

from modalities.base import BadSample
from modalities.image.readers import exif, icc
from modalities.image.readers.span import Span
from modalities.image.schema import Header, check_size

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_CHUNKS = 1 << 17
MAX_BLOCK = 1 << 20  # EXIF

_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_MODES = {0: ("grey", 1), 2: ("rgb", 3), 3: ("palette", 3), 4: ("grey-alpha", 4), 6: ("rgba", 4)}


def chunks(span: Span) -> Iterator[tuple[bytes, int, int]]:
    """(type, offset of the data, length) of every chunk up to and with IEND."""
    offset = len(SIGNATURE)
    for _ in range(MAX_CHUNKS):
        head = span.at(offset, 8)
        length = int.from_bytes(head[:4], "big")
        if offset + 12 + length > span.size:
            raise BadSample("truncated", f"PNG chunk {head[4:]!r} at byte {offset} ends beyond the file")
        yield head[4:], offset + 8, length
        if head[4:] == b"IEND":
            return
        offset += 12 + length
    raise BadSample("corrupt", f"PNG has more than {MAX_CHUNKS} chunks")


def read(span: Span) -> Header:
    """Header of a PNG; an animated one counts as its default picture."""
    kind, offset, length = next(chunks(span))
    if kind != b"IHDR" or length != 13:
        raise BadSample("corrupt", f"PNG begins with {kind!r} of {length} bytes, want IHDR of 13")
    body = span.at(offset, 13)
    width, height, depth, colour, _, _, interlace = struct.unpack(">IIBBBBB", body)
    if depth not in _DEPTHS.get(colour, ()):
        raise BadSample("corrupt", f"PNG colour type {colour} with {depth} bits does not exist")
    if zlib.crc32(b"IHDR" + body) != span.uint(offset + 13, 4):
        raise BadSample("corrupt", "PNG header does not match its checksum")
    mode, channels = _MODES[colour]
    found = {k: (at, size) for k, at, size in chunks(span)}  # the last one of a kind; these kinds come once
    if b"IDAT" not in found:
        raise BadSample("corrupt", "PNG without picture data (IDAT)")
    channels = 4 if b"tRNS" in found else channels
    check_size("PNG", width, height, channels, 2 if depth == 16 else 1)
    at, size = found.get(b"eXIf", (0, 0))
    orientation, timestamp = exif.read(span.at(at, size)) if 0 < size <= MAX_BLOCK else (1, None)
    return Header(
        format="png",
        width=width,
        height=height,
        mode="bilevel" if (colour, depth) == (0, 1) else mode,
        channels=channels,
        bit_depth=depth,
        orientation=orientation,
        progressive=interlace == 1,
        animated=b"acTL" in found,
        icc=_profile(span, *found[b"iCCP"]) if b"iCCP" in found else None,
        timestamp=timestamp,
    )


def _profile(span: Span, offset: int, length: int) -> bytes | None:
    """ICC profile of an iCCP chunk: name, zero, method 0, zlib stream. A broken one is left out."""
    _, _, rest = span.at(offset, min(length, icc.MAX_BYTES)).partition(b"\0")
    try:
        return zlib.decompressobj().decompress(rest[1:], icc.MAX_BYTES) or None
    except zlib.error:
        return None
