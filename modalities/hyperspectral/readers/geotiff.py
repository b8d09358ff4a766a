"""Multi-band GeoTIFF and COG: our directory walk first, then GDAL's GTiff driver and no other."""

import os
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from modalities.base import MAX_DECODED_BYTES, BadSample, Meta, Raw, check_decoded
from modalities.hyperspectral.readers import _blocks as _blocks_of
from modalities.hyperspectral.readers._ifd import Tag, Tiff, opened
from modalities.hyperspectral.schema import Facts, Scene, Window
from modalities.hyperspectral.spectral import numbers, to_nm
from modalities.libraries import load

SUFFIXES = (".tif", ".tiff", ".gtiff", ".gtif")
COMPRESSIONS = (
    1,
    5,
    7,
    8,
    32773,
    32946,
    34925,
    50000,
)  # none, LZW, JPEG, deflate, PackBits, deflate, LZMA, zstd
GDAL_ENVIRONMENT: dict[str, Any] = {
    "GDAL_SKIP": "VRT DERIVED",  # a VRT points at other files and URLs
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",  # no .aux.xml, .ovr or .msk from beside the file
    "GDAL_PAM_ENABLED": "NO",
    "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".none",
    "GDAL_CACHEMAX": 64,  # MB; the default is 5 % of the machine in every process
    "GDAL_NUM_THREADS": "1",
}
_NM_IN_TEXT = re.compile(r"(\d+(?:\.\d+)?)\s*(nm|nano\w*|um|\u00b5m|\u03bcm|micro\w*)", re.IGNORECASE)


def matches(head: bytes) -> bool:
    """TIFF or BigTIFF, either byte order."""
    return head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


@dataclass(frozen=True)
class _Layout:
    """How the blocks of an image lie in the file."""

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    interleave: str


def _one(tiff: Tiff, tags: Mapping[int, Tag], code: int, default: int | None = None) -> int:
    if code not in tags or tags[code].count < 1:
        if default is None:
            raise BadSample("corrupt", f"want TIFF tag {code}, got tags {sorted(tags)}")
        return default
    return int(tiff.values(replace(tags[code], count=1))[0])


def _layout(tiff: Tiff, tags: Mapping[int, Tag]) -> _Layout:
    width, height = _one(tiff, tags, 256), _one(tiff, tags, 257)
    bands, planar = _one(tiff, tags, 277, 1), _one(tiff, tags, 284, 1)
    bits = set(tiff.values(tags[258]).tolist()) if 258 in tags else {1}
    forms = set(tiff.values(tags[339]).tolist()) if 339 in tags else {1}
    if len(bits) != 1 or len(forms) != 1:
        raise BadSample(
            "unsupported", f"want one type for all bands, got {bits} bits, sample formats {forms}"
        )
    bit, form = bits.pop(), forms.pop()
    kind = {1: "u", 2: "i", 3: "f", 4: "u", 5: "i", 6: "c"}.get(form)
    if kind is None or bit not in (
        (64, 128) if kind == "c" else (16, 32, 64) if kind == "f" else (8, 16, 32, 64)
    ):
        raise BadSample(
            "unsupported", f"want 8, 16, 32 or 64-bit values, got {bit} bits, sample format {form}"
        )
    if form == 5:
        raise BadSample("unsupported", "want real or complex float values, got complex integers")
    if _one(tiff, tags, 259, 1) not in COMPRESSIONS:
        raise BadSample("unsupported", f"want compression in {COMPRESSIONS}, got {_one(tiff, tags, 259)}")
    _blocks(tiff, tags, (height, width, bands), planar, bit // 8)
    dtype = np.dtype(f"{kind}{bit // 8}").newbyteorder(tiff.order)
    return _Layout((height, width, bands), dtype, "bip" if planar == 1 else "bsq")


def _blocks(
    tiff: Tiff, tags: Mapping[int, Tag], shape: tuple[int, int, int], planar: int, itemsize: int
) -> None:
    """Every strip or tile is inside the file, and there are as many as the size asks for."""
    height, width, bands = shape
    tiled = 324 in tags
    across = _one(tiff, tags, 322) if tiled else width
    down = _one(tiff, tags, 323) if tiled else min(_one(tiff, tags, 278, height), height)
    offset_code, size_code = (324, 325) if tiled else (273, 279)
    if min(across, down, width, height, bands) < 1:
        raise BadSample("empty", f"want at least one pixel, got {shape} in blocks of {down} x {across}")
    if across * down * (bands if planar == 1 else 1) * itemsize > MAX_DECODED_BYTES:
        raise BadSample(
            "too-large", f"one block of {down} x {across} x {bands} does not fit the memory allowed"
        )
    wanted = -(-width // across) * -(-height // down) * (1 if planar == 1 else bands)
    for code in (offset_code, size_code):
        if code not in tags or tags[code].count != wanted:
            got = tags[code].count if code in tags else 0
            raise BadSample("corrupt", f"want {wanted:,} blocks for {shape}, TIFF tag {code} lists {got:,}")
    offsets = tiff.values(tags[offset_code]).astype(np.float64)
    ends = offsets + tiff.values(tags[size_code])  # float64: no wrap, exact below 9e15
    if ends.max() > tiff.size:
        raise BadSample("truncated", f"a block ends at {int(ends.max()):,}, the file at {tiff.size:,}")


def _affine(tiff: Tiff, tags: Mapping[int, Tag], keys: Mapping[int, int]) -> list[float] | None:
    """From ModelTransformation, or pixel scale and one tie point; of pixel corners, as GDAL has it."""
    if 34264 in tags and tags[34264].count >= 16:
        matrix = tiff.values(tags[34264]).astype(float)
        affine = [float(matrix[i]) for i in (0, 1, 3, 4, 5, 7)]
    elif 33550 in tags and 33922 in tags and tags[33550].count >= 2 and tags[33922].count >= 6:
        dx, dy = (float(value) for value in tiff.values(tags[33550])[:2])
        column, row, _, x, y, _ = (float(value) for value in tiff.values(tags[33922])[:6])
        affine = [dx, 0.0, x - column * dx, 0.0, -dy, y + row * dy]
    else:
        return None
    if keys.get(1025) == 2:  # RasterPixelIsPoint: the tie point is a centre
        a, b, c, d, e, f = affine
        affine = [a, b, c - (a + b) / 2, d, e, f - (d + e) / 2]
    return affine if np.isfinite(affine).all() else None


def _geokeys(tiff: Tiff, tags: Mapping[int, Tag]) -> dict[int, int]:
    """The GeoKeys whose value is one short number."""
    if 34735 not in tags:
        return {}
    table = tiff.values(tags[34735]).tolist()
    rows = [table[start : start + 4] for start in range(4, len(table) - 3, 4)]
    return {key: value for key, location, _, value in rows if location == 0}


def _crs(keys: Mapping[int, int]) -> str | None:
    for key in (3072, 2048):
        if 1024 <= keys.get(key, 0) < 32767:
            return f"EPSG:{keys[key]}"
    return None


def _items(text: str) -> dict[tuple[str, int], str]:
    """GDAL_METADATA -> {(name, band or -1): text}. No DOCTYPE, hence no entities."""
    if "<!" in text:
        raise BadSample("unsafe", "the GDAL metadata of a TIFF must not declare entities")
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError:
        return {}  # GDAL ignores what it cannot parse
    found = {}
    for item in root.iter("Item"):
        band = item.get("sample", "-1")
        name = item.get("role") or item.get("name") or ""
        if re.fullmatch(r"-1|\d{1,5}", band):
            found[name.lower(), int(band)] = (item.text or "").strip()
    return found


def _spectral(items: Mapping[tuple[str, int], str], bands: int) -> dict[str, Any]:
    """Wavelengths: a tag of each band, a list for the file, else a length named in each description."""

    def each(*names: str) -> list[str] | None:
        for name in names:
            values = [items.get((name, band), "") for band in range(bands)]
            if all(numbers(value) for value in values):
                return values
        return None

    found: dict[str, Any] = {}
    micro = each("central_wavelength_um")
    centres = micro or each("wavelength", "center_wavelength", "wavelengths", "wavelength_nm")
    units = "um" if micro else items.get(("wavelength_units", 0)) or items.get(("wavelength_units", -1))
    values = (
        [numbers(value)[0] for value in centres] if centres else numbers(items.get(("wavelength", -1), ""))
    )
    named = [_NM_IN_TEXT.search(items.get(("description", band), "")) for band in range(bands)]
    if not values and all(named):
        values, units = (
            [float(match[1]) for match in named if match],
            next(match[2] for match in named if match),
        )
    widths = each("fwhm_um") if micro else each("fwhm")
    width = (
        [numbers(value)[0] for value in widths] if widths else numbers(items.get(("fwhm", -1), "")) or None
    )
    found["wavelengths"], found["fwhm"] = to_nm(values, units, width)
    for name, plain in (("scale", 1.0), ("offset", 0.0)):
        per_band = [numbers(items.get((name, band), ""))[:1] or [plain] for band in range(bands)]
        if any(value[0] != plain for value in per_band):
            found[name] = [value[0] for value in per_band]
    bad = each("bbl", "good_band")
    if bad:
        found["bad_bands"] = [numbers(value)[0] == 0 for value in bad]
    return found


def _nodata(tiff: Tiff, tags: Mapping[int, Tag]) -> float | None:
    if 42113 not in tags:
        return None
    try:
        return float(tiff.text(tags[42113]).strip())
    except ValueError:
        return None


_KEPT_BYTES = 2**24
_last: tuple[bytes, Facts] | None = None


def _facts(raw: Raw) -> Facts:
    """What the directories say. Kept for the bytes last seen: a file is probed, then opened."""
    global _last
    last = _last
    if last is not None and last[0] is raw.content:
        return last[1]
    facts = _read_facts(raw)
    if isinstance(raw.content, bytes) and len(raw.content) <= _KEPT_BYTES:
        _last = raw.content, facts
    return facts


def _read_facts(raw: Raw) -> Facts:
    with raw.open() as file:
        tiff = opened(file, raw.size)
        directories = iter(tiff.directories())
        tags = next(directories, None)
        if tags is None:
            raise BadSample("empty", f"{raw.name} has no image")
        layout = _layout(tiff, tags)
        pages = 1
        for other in directories:
            if 256 in other and 257 in other:
                subfile = _one(tiff, other, 254, 0)
                pages += not subfile & 0b101 and _one(tiff, other, 255, 1) == 1  # no overview, no mask
                _layout_of_overview(tiff, other)
        if pages > 1:
            raise BadSample(
                "unsupported", f"want one image of many bands, got {pages} pages; stack them first"
            )
        keys = _geokeys(tiff, tags)
        items = _items(tiff.text(tags[42112])) if 42112 in tags else {}
        return Facts(
            format="geotiff",
            shape=layout.shape,
            dtype=layout.dtype,
            interleave=layout.interleave,
            crs=_crs(keys),
            affine=_affine(tiff, tags, keys),
            nodata=_nodata(tiff, tags),
            **_spectral(items, min(layout.shape[2], 2**16)),
        ).checked(raw.size)


def _layout_of_overview(tiff: Tiff, tags: Mapping[int, Tag]) -> None:
    """GDAL opens overviews and masks too: their blocks have to be in the file as well."""
    itemsize = max(1, int(tiff.values(tags[258]).max()) // 8) if 258 in tags else 1
    shape = _one(tiff, tags, 257), _one(tiff, tags, 256), _one(tiff, tags, 277, 1)
    _blocks(tiff, tags, shape, _one(tiff, tags, 284, 1), itemsize)


def look(raw: Raw) -> dict[str, NDArray[Any]] | None:
    """`cube` and the fields of Facts without GDAL; None where GDAL has to be asked."""
    facts = _facts(raw)
    check_decoded("cube", facts.shape, facts.dtype.itemsize)
    with raw.open() as file:
        cube = _blocks_of.read(opened(file, raw.size), facts.shape, facts.dtype)
    return None if cube is None else {"cube": cube, **facts.arrays()}


def probe(raw: Raw) -> Meta:
    """Directories, blocks and tags; BadSample."""
    return _facts(raw).meta()


def gdal() -> Any:
    """Rasterio, imported with GDAL told to open nothing but what it is given."""
    os.environ.update(
        {name: str(value) for name, value in GDAL_ENVIRONMENT.items() if name not in os.environ}
    )
    load("rasterio")
    import rasterio

    return rasterio


@contextmanager
def open(raw: Raw) -> Iterator[Scene]:
    """Windows decode only the blocks they touch."""
    facts = _facts(raw)
    rasterio = gdal()
    with ExitStack() as stack:
        stack.enter_context(rasterio.Env(**GDAL_ENVIRONMENT))
        if isinstance(raw.content, Path):
            source: Any = raw.content
        else:
            source = stack.enter_context(rasterio.MemoryFile(raw.content))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            dataset = stack.enter_context(rasterio.open(source, driver="GTiff", sharing=False))
        shape = dataset.height, dataset.width, dataset.count
        if shape != facts.shape:
            raise BadSample("corrupt", f"the directory says {facts.shape} (h, w, c), GDAL {shape}")
        if facts.crs is None and dataset.crs:
            facts = replace(facts, crs=dataset.crs.to_wkt())

        def read(window: Window) -> NDArray[Any]:
            rows, columns = (window.y, window.y + window.height), (window.x, window.x + window.width)
            cube: NDArray[Any] = dataset.read(window=(rows, columns)).transpose(1, 2, 0)
            return cube

        yield Scene(facts=facts, read=read)
