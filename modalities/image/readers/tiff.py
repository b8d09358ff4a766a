"""TIFF: the first page's layout, strips or tiles, checked against the file.

Source: TIFF 6.0 (Adobe, 1992); TIFF Technical Notes 1-3.
"""

from dataclasses import dataclass

from modalities.base import BadSample, check_decoded
from modalities.image.readers import exif, icc
from modalities.image.readers.ifd import Entry, Tiff
from modalities.image.readers.span import Span
from modalities.image.schema import Header, check_size

COMPRESSIONS = {  # what libtiff as shipped with Pillow decodes
    1: "none",
    2: "ccitt-rle",
    3: "ccitt-3",
    4: "ccitt-4",
    5: "lzw",
    7: "jpeg",
    8: "deflate",
    32773: "packbits",
    32946: "deflate",
    34925: "lzma",
    50000: "zstd",
}
_MODES = {(0, 1): "grey", (1, 1): "grey", (2, 3): "rgb", (3, 1): "palette", (5, 4): "cmyk", (6, 3): "rgb"}
_ALPHAS = {(0, 2): "grey-alpha", (1, 2): "grey-alpha", (2, 4): "rgba"}
_CHANNELS = {"grey": 1, "bilevel": 1, "grey-alpha": 4, "rgb": 3, "palette": 3, "cmyk": 3, "rgba": 4}


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where the samples of the first page lie; lengths in pixels, offsets in bytes."""

    width: int
    height: int
    samples: int
    bits: int
    photometric: int
    compression: int
    predictor: int
    separate: bool  # one plane after the other
    associated: bool  # colours already multiplied by alpha
    tiled: bool
    tile: tuple[int, int]  # (width, height) of a tile or strip
    offsets: tuple[int, ...]
    counts: tuple[int, ...]


def layout(tiff: Tiff, entries: dict[int, Entry]) -> Layout:
    """The page's layout; BadSample when it contradicts itself or the length of the file."""

    def values(tag: int, default: tuple[int, ...] = ()) -> tuple[int, ...]:
        return tiff.numbers(entries[tag]) if tag in entries else default

    def one(tag: int, default: int) -> int:
        return next(iter(values(tag)), default)

    width, height, samples = one(256, 0), one(257, 0), one(277, 1)
    bits, formats = set(values(258, (1,))[:samples]), set(values(339, (1,))[:samples])
    photometric = one(262, -1)
    if len(bits) != 1 or formats != {1}:
        raise BadSample(
            "unsupported", f"TIFF of {sorted(bits)} bits, format {sorted(formats)}; want unsigned alike"
        )
    depth = bits.pop()
    check_size("TIFF", width, height, samples, 2 if depth == 16 else 1)
    tiled = 322 in entries
    tile = (one(322, 0), one(323, 0)) if tiled else (width, min(one(278, height), height))
    if min(tile) < 1:
        raise BadSample("corrupt", f"TIFF tiles or strips of {tile[0]} x {tile[1]} pixels")
    check_decoded("TIFF tile", (*tile, samples), 2 if depth == 16 else 1)
    found = Layout(
        width=width,
        height=height,
        samples=samples,
        bits=depth,
        photometric=photometric,
        compression=one(259, 1),
        predictor=one(317, 1),
        separate=one(284, 1) == 2 and samples > 1,
        associated=values(338)[:1] == (1,),
        tiled=tiled,
        tile=tile,
        offsets=values(324 if tiled else 273),
        counts=values(325 if tiled else 279),
    )
    _check_pieces(found, tiff.span.size)
    return found


def _check_pieces(page: Layout, size: int) -> None:
    across = -(-page.width // page.tile[0]) * -(-page.height // page.tile[1])
    want = across * (page.samples if page.separate else 1)
    if len(page.offsets) != want or len(page.counts) != want:
        got = f"{len(page.offsets)} offsets and {len(page.counts)} lengths"
        raise BadSample("corrupt", f"TIFF has {got} of strips or tiles, want {want}")
    for offset, count in zip(page.offsets, page.counts, strict=True):
        if offset + count > size:
            raise BadSample(
                "truncated", f"TIFF strip or tile at {offset} + {count} lies beyond the end, {size}"
            )
    if page.compression == 1:
        row = (page.tile[0] * (1 if page.separate else page.samples) * page.bits + 7) // 8
        rows = page.tile[1] if page.tiled else page.height % page.tile[1] or page.tile[1]
        if min(page.counts) < row * rows:
            raise BadSample("truncated", f"TIFF strip of {min(page.counts)} bytes, want {row * rows}")


def _mode(page: Layout) -> str:
    key = (page.photometric, page.samples)
    mode = _MODES.get(key) or _ALPHAS.get(key)
    if mode is None:
        raise BadSample(
            "unsupported",
            f"TIFF with photometric {page.photometric} and {page.samples} samples a pixel; "
            "many bands are read as modality hyperspectral",
        )
    deep = {"grey": (1, 2, 4, 8, 16), "palette": (1, 2, 4, 8), "cmyk": (8,)}.get(mode, (8, 16))
    if page.bits not in deep or (page.bits == 16 and page.photometric == 6):
        raise BadSample("unsupported", f"TIFF {mode} with {page.bits} bits a sample, want {deep}")
    if page.compression not in COMPRESSIONS or (page.bits == 16 and page.compression == 7):
        raise BadSample("unsupported", f"TIFF compression {page.compression}, want one of {COMPRESSIONS}")
    if page.predictor not in (1, 2):
        raise BadSample("unsupported", f"TIFF predictor {page.predictor}, want 1 (none) or 2 (horizontal)")
    return "bilevel" if mode == "grey" and page.bits == 1 else mode


def read(span: Span) -> Header:
    """Header of a TIFF's first page."""
    tiff = Tiff.open(span)
    pages = tiff.pages()
    if not pages:
        raise BadSample("corrupt", "TIFF without a directory")
    entries = tiff.directory(tiff.first)
    page = layout(tiff, entries)
    mode = _mode(page)
    orientation, timestamp = exif.facts(tiff, entries)
    profile = entries.get(34675)
    check_size("TIFF", page.width, page.height, _CHANNELS[mode], 2 if page.bits == 16 else 1)
    return Header(
        format="tif",
        width=page.width,
        height=page.height,
        mode=mode,
        channels=_CHANNELS[mode],
        bit_depth=page.bits,
        orientation=orientation,
        compression=COMPRESSIONS[page.compression],
        animated=pages > 1,
        icc=tiff.blob(profile) if profile and profile.count <= icc.MAX_BYTES else None,
        timestamp=timestamp,
    )
