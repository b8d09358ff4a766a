"""BMP: the file and information headers. Source: Microsoft, BITMAPINFOHEADER and BITMAPV5HEADER."""

import struct

from modalities.base import BadSample
from modalities.image.readers.span import Span
from modalities.image.schema import Header, check_size

_COMPRESSIONS = {0: "none", 1: "rle8", 2: "rle4", 3: "bitfields", 6: "bitfields"}


def read(span: Span) -> Header:
    """Header of a BMP; palettes decode to RGB, 32 bits to RGBA only when a mask says alpha."""
    offset, size = struct.unpack("<II", span.at(10, 8))
    compression, alpha = 0, False
    if size == 12:
        width, height, _, depth = struct.unpack("<HHHH", span.at(18, 8))
    elif size in (40, 52, 56, 64, 108, 124):
        width, height, _, depth, compression = struct.unpack("<iiHHI", span.at(18, 16))
        if compression in (3, 6) and depth == 32 and size >= 56 and size != 64:
            alpha = span.uint(66, 4, "little") != 0
    else:
        raise BadSample("unsupported", f"BMP information header of {size} bytes, want 12 or 40..124")
    height = abs(height)  # negative: rows from the top
    if compression not in _COMPRESSIONS or depth not in (1, 2, 4, 8, 16, 24, 32):
        raise BadSample("unsupported", f"BMP with compression {compression} and {depth} bits a pixel")
    channels = 4 if alpha else 3
    check_size("BMP", width, height, channels)
    end = offset + (width * depth + 31) // 32 * 4 * height
    if _COMPRESSIONS[compression] in ("none", "bitfields") and end > span.size:
        raise BadSample("truncated", f"BMP pixels end at byte {end}, the file at {span.size}")
    return Header(
        format="bmp",
        width=width,
        height=height,
        mode="palette" if depth <= 8 else "rgba" if alpha else "rgb",
        channels=channels,
        bit_depth=min(depth, 8),
        compression=_COMPRESSIONS[compression],
    )
