"""What a picture is, from its first bytes and its structure; no pixel is decoded."""

from collections.abc import Callable

from modalities.base import BadSample, Raw
from modalities.image.readers import bmp, gif, icc, jpeg, png, tiff, webp
from modalities.image.readers.span import Span
from modalities.image.schema import EXTENSIONS, Header, ImageMeta

_READERS: dict[str, Callable[[Span], Header]] = {
    "jpg": jpeg.read,
    "png": png.read,
    "webp": webp.read,
    "tif": tiff.read,
    "gif": gif.read,
    "bmp": bmp.read,
}


def sniff(head: bytes) -> str | None:
    """The format whose first bytes these are (16 are enough), or None."""
    if head.startswith(b"\xff\xd8\xff"):
        return "jpg"
    if head.startswith(png.SIGNATURE):
        return "png"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "webp"
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "tif"
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return "gif"
    return "bmp" if head.startswith(b"BM") else None


def read_header(raw: Raw) -> Header:
    """Everything the structure says, the ICC profile included; BadSample as listed in schema."""
    head = raw.head(16)
    if not head:
        raise BadSample("empty", f"{raw.name} has no bytes")
    found = sniff(head)
    if found is None:
        raise BadSample("unknown-format", f"{raw.name} begins with {head.hex()}; want {', '.join(_READERS)}")
    named = EXTENSIONS.get(raw.filename.rpartition(".")[2])
    if named not in (None, found):
        raise BadSample("extension-mismatch", f"{raw.name} is called {named} and is {found}; rename it")
    if isinstance(raw.content, bytes):
        return _READERS[found](Span(len(raw.content), data=raw.content))
    with raw.open() as file:
        return _READERS[found](Span(raw.size, file=file))


def probe(raw: Raw) -> ImageMeta:
    """Header facts of `raw`, or BadSample; works on bytes and on files of any size, read in part."""
    header = read_header(raw)
    height, width = header.displayed
    return ImageMeta(
        format=header.format,
        width=width,
        height=height,
        stored_width=header.width,
        stored_height=header.height,
        mode=header.mode,
        channels=header.channels,
        bit_depth=header.bit_depth,
        dtype=header.dtype,
        orientation=header.orientation,
        compression=header.compression,
        progressive=header.progressive,
        animated=header.animated,
        icc=header.icc is not None,
        icc_name=icc.name(header.icc) if header.icc else None,
        timestamp=header.timestamp,
    )
