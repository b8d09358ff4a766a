"""JPEG: the markers up to the first scan.

Source: ITU-T T.81, annex B; JFIF 1.02; Exif 2.32; ICC.1:2022 annex B.4.
"""

from struct import Struct

from modalities.base import BadSample
from modalities.image.readers import exif, icc
from modalities.image.readers.span import Span
from modalities.image.schema import Header, check_size

HEAD = 1024  # bytes read at once: the markers of most files lie there
MAX_SEGMENTS = 4096
MAX_SCANS = 500  # a progressive file may rescan every pixel as often as it likes: 1 MB can cost minutes

_SOI, _EOI, _SOS, _APP1, _APP2 = 0xD8, 0xD9, 0xDA, 0xE1, 0xE2
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_READ = {0xC0: "baseline", 0xC1: "extended", 0xC2: "progressive"}
_STANDALONE = {0x01, *range(0xD0, 0xD8)}
_PASSED = {0xC4, 0xDB, 0xDD, 0xFE, *range(0xE0, 0xF0)} - {_APP1, _APP2}  # tables, comments, other APPs
_SEGMENT = Struct(">BBH")  # flag, marker, length
_MODES = {1: ("grey", 1), 3: ("rgb", 3), 4: ("cmyk", 3)}


def read(span: Span) -> Header:
    """Header of a JPEG. Only 8-bit Huffman-coded DCT frames are read, sequential or progressive."""
    offset, frame, block = 2, None, b""
    profile: dict[int, bytes] = {}
    head = span.at(0, min(span.size, HEAD))
    last = len(head) - _SEGMENT.size
    for _ in range(MAX_SEGMENTS):
        flag, marker, length = (
            _SEGMENT.unpack_from(head, offset) if offset <= last else _SEGMENT.unpack(span.at(offset, 4))
        )
        if marker in _PASSED and flag == 0xFF and length >= 2:  # as nearly all are
            offset += 2 + length
            continue
        if flag != 0xFF or marker in (_SOI, _EOI):
            raise BadSample("corrupt", f"JPEG marker wanted at byte {offset}, got {flag:02x} {marker:02x}")
        if marker == 0xFF:  # fill
            offset += 1
            continue
        offset += 2
        if marker in _STANDALONE:
            continue
        if length < 2:
            raise BadSample("corrupt", f"JPEG segment of length {length} at byte {offset}, want at least 2")
        if marker == _SOS:
            break
        if marker in _FRAMES:
            if frame is not None:
                raise BadSample("corrupt", f"second JPEG frame header at byte {offset}")
            frame = marker, span.at(offset + 2, length - 2)
        elif marker == _APP1 and not block and length >= 8 and span.at(offset + 2, 6) == b"Exif\0\0":
            block = span.at(offset + 2, length - 2)
        elif marker == _APP2 and length >= 16 and span.at(offset + 2, 12) == b"ICC_PROFILE\0":
            profile[span.uint(offset + 14, 1)] = span.at(offset + 16, length - 16)
        offset += length
    else:
        raise BadSample("corrupt", f"JPEG has more than {MAX_SEGMENTS} segments before the first scan")
    if frame is None:
        raise BadSample("corrupt", "JPEG scan without a frame header")
    _check_end(span, offset, progressive=frame[0] == 0xC2)
    orientation, timestamp = exif.read(block) if block else (1, None)
    width, height, mode, channels = _frame(*frame)
    return Header(
        format="jpg",
        width=width,
        height=height,
        mode=mode,
        channels=channels,
        bit_depth=8,
        orientation=orientation,
        compression=_READ[frame[0]],
        progressive=frame[0] == 0xC2,
        icc=_joined(profile) if profile else None,
        timestamp=timestamp,
    )


def _joined(profile: dict[int, bytes]) -> bytes | None:
    return b"".join(profile[k] for k in sorted(profile))[: icc.MAX_BYTES] or None


def _frame(marker: int, body: bytes) -> tuple[int, int, str, int]:
    """(width, height, mode, decoded channels) of a frame header."""
    if marker not in _READ:
        raise BadSample("unsupported", f"JPEG frame type {marker:#04x}: lossless, hierarchical or arithmetic")
    if len(body) < 6 or len(body) != 6 + 3 * body[5]:
        raise BadSample("corrupt", f"JPEG frame header of {len(body)} bytes does not fit its components")
    height, width = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
    if body[0] != 8:
        raise BadSample("unsupported", f"JPEG with {body[0]} bits a sample, want 8")
    if body[5] not in _MODES:
        raise BadSample("unsupported", f"JPEG with {body[5]} components, want 1, 3 or 4")
    mode, channels = _MODES[body[5]]
    check_size("JPEG", width, height, channels)
    return width, height, mode, channels


def _check_end(span: Span, scan: int, *, progressive: bool) -> None:
    if not span.holds(b"\xff\xd9", scan):
        raise BadSample("truncated", "JPEG has no end mark (FF D9) behind its first scan")
    if progressive and (scans := span.count(b"\xff\xda", scan)) > MAX_SCANS:
        raise BadSample("too-large", f"progressive JPEG with {scans} scans, more than {MAX_SCANS}")
