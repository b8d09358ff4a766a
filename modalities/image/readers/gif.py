"""GIF: the blocks up to the second picture. Source: GIF89a specification (CompuServe, 1990)."""

from modalities.base import BadSample
from modalities.image.readers.span import Span
from modalities.image.schema import Header, check_size

MAX_BLOCKS = 4096

_EXTENSION, _PICTURE, _TRAILER, _CONTROL = 0x21, 0x2C, 0x3B, 0xF9


def read(span: Span) -> Header:
    """Header of a GIF: the screen, and the first picture, which may reach beyond it."""
    width, height = span.uint(6, 2, "little"), span.uint(8, 2, "little")
    flags = span.uint(10, 1)
    offset = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    transparent, interlaced, pictures = False, False, 0
    for _ in range(MAX_BLOCKS):
        if pictures and offset >= span.size:  # many writers forget the trailer
            break
        kind = span.uint(offset, 1)
        if kind == _TRAILER or (kind == _PICTURE and pictures):
            pictures += kind == _PICTURE
            break
        if kind == _PICTURE:
            left, top, wide, tall = (span.uint(offset + k, 2, "little") for k in (1, 3, 5, 7))
            width, height = max(width, left + wide), max(height, top + tall)
            local = span.uint(offset + 9, 1)
            interlaced, pictures = bool(local & 0x40), 1
            offset = _skip(span, offset + 11 + (3 << (local & 7) + 1 if local & 0x80 else 0))
        elif kind == _EXTENSION:
            if not pictures and span.uint(offset + 1, 1) == _CONTROL:
                transparent = bool(span.uint(offset + 3, 1) & 1)
            offset = _skip(span, offset + 2)
        elif pictures:
            break  # rubbish behind the first picture harms nobody
        else:
            raise BadSample("corrupt", f"GIF block {kind:#04x} at byte {offset} does not exist")
    if not pictures:
        raise BadSample("corrupt", "GIF without a picture")
    channels = 4 if transparent else 3
    check_size("GIF", width, height, channels)
    return Header(
        format="gif",
        width=width,
        height=height,
        mode="palette",
        channels=channels,
        bit_depth=8,
        progressive=interlaced,
        animated=pictures > 1,
    )


def _skip(span: Span, offset: int) -> int:
    """Offset behind a row of sub-blocks."""
    while size := span.uint(offset, 1):
        offset += 1 + size
    return offset + 1
