"""WebP: RIFF chunks and the three kinds of bitstream header.

Source: WebP Container Specification; RFC 6386 sec. 9.1 (VP8); WebP Lossless Bitstream sec. 3.
"""

from modalities.base import BadSample
from modalities.image.readers import exif, icc
from modalities.image.readers.span import Span
from modalities.image.schema import Header, check_size

MAX_CHUNKS = 1 << 16
MAX_BLOCK = 1 << 20


def read(span: Span) -> Header:
    """Header of a WebP; of an animated one the first frame is read."""
    end = 8 + span.uint(4, 4, "little")
    if end > span.size:
        raise BadSample("truncated", f"WebP says it has {end} bytes, the file has {span.size}")
    first = span.at(12, 4)
    body = span.at(20, min(10, span.uint(16, 4, "little")))
    if first == b"VP8X":
        if len(body) < 10:
            raise BadSample("corrupt", f"WebP VP8X chunk of {len(body)} bytes, want 10")
        flags = body[0]
        width, height = (1 + int.from_bytes(body[k : k + 3], "little") for k in (4, 7))
        alpha, animated = bool(flags & 0x10), bool(flags & 0x02)
        found = _chunks(span, end)
    elif first in (b"VP8 ", b"VP8L"):
        width, height, alpha = _bitstream(first, body)
        animated, found = False, {first: (20, span.uint(16, 4, "little"))}
    else:
        raise BadSample("corrupt", f"WebP begins with {first!r}, want VP8, VP8L or VP8X")
    at, size = found.get(first, (0, 0))
    if at + size > end:
        raise BadSample("truncated", f"WebP chunk {first!r} ends at {at + size}, the container at {end}")
    check_size("WebP", width, height, 4 if alpha else 3)
    at, size = found.get(b"EXIF", (0, 0))
    orientation, timestamp = exif.read(span.at(at, size)) if 0 < size <= MAX_BLOCK else (1, None)
    at, size = found.get(b"ICCP", (0, 0))
    lossless = b"VP8L" in found
    return Header(
        format="webp",
        width=width,
        height=height,
        mode="rgba" if alpha else "rgb",
        channels=4 if alpha else 3,
        bit_depth=8,
        orientation=orientation,
        compression="lossless" if lossless else "lossy",
        animated=animated,
        icc=span.at(at, min(size, icc.MAX_BYTES)) or None,
        timestamp=timestamp,
    )


def _bitstream(kind: bytes, body: bytes) -> tuple[int, int, bool]:
    """(width, height, alpha) of a simple file."""
    mark, size = (body[:1], 5) if kind == b"VP8L" else (body[3:6], 10)
    if len(body) < size or mark not in (b"\x2f", b"\x9d\x01\x2a"):
        raise BadSample("corrupt", f"WebP {kind!r} chunk does not begin like one: {body.hex()}")
    if kind == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF), bool(bits >> 28 & 1)
    width, height = (int.from_bytes(body[k : k + 2], "little") & 0x3FFF for k in (6, 8))
    return width, height, False


def _chunks(span: Span, end: int) -> dict[bytes, tuple[int, int]]:
    """First chunk of each kind -> (offset of the data, length)."""
    found: dict[bytes, tuple[int, int]] = {}
    offset = 12
    for _ in range(MAX_CHUNKS):
        if offset + 8 > end:
            return found
        kind, size = span.at(offset, 4), span.uint(offset + 4, 4, "little")
        if offset + 8 + size > end:
            raise BadSample("truncated", f"WebP chunk {kind!r} at byte {offset} ends beyond the container")
        found.setdefault(kind, (offset + 8, size))
        offset += 8 + size + size % 2
    raise BadSample("corrupt", f"WebP has more than {MAX_CHUNKS} chunks")
