"""What is known of a cube besides its values, and how a window of it is read: one form for every format."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from modalities.base import BadSample, Meta, Raw, check_decoded

MAX_BANDS = 4096
MAX_SIDE = 2**21  # pixels; more is a lie: a 30 m raster of the whole Equator has 1.3 million
MAX_RATIO = 20_000  # decoded bytes / stored bytes; deflate reaches 1032, zstd on constants a few thousand


class Window(NamedTuple):
    """Pixels [y, y + height) x [x, x + width)."""

    y: int
    x: int
    height: int
    width: int


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Everything but the pixels. Lists have one entry a band; None means the file does not say.

    `wavelengths`, `fwhm` in nm. `affine` is (a, b, c, d, e, f): x = a * column + b * row + c and
    y = d * column + e * row + f, of the upper-left corner of a pixel. `value = stored * scale + offset`.
    `crs` is "EPSG:n" where the file names a code, else WKT. `bad_bands` is True where a band is unusable.
    """

    format: str
    shape: tuple[int, int, int]  # (h, w, c)
    dtype: np.dtype[Any]
    interleave: str | None = None  # bip | bil | bsq
    wavelengths: Sequence[float] | None = None
    fwhm: Sequence[float] | None = None
    crs: str | None = None
    affine: Sequence[float] | None = None
    nodata: float | None = None
    scale: float | Sequence[float] | None = None
    offset: float | Sequence[float] | None = None
    bad_bands: Sequence[bool] | None = None
    more: Meta = field(default_factory=dict)  # what only this format's reader needs, JSON-able

    def meta(self) -> dict[str, Any]:
        """JSON-able; a nodata value that JSON cannot hold is its name, "nan" or "inf"."""
        nodata = self.nodata if self.nodata is None or np.isfinite(self.nodata) else str(self.nodata)
        height, width, bands = self.shape
        return {
            "format": self.format,
            "width": width,
            "height": height,
            "bands": bands,
            "dtype": self.dtype.name,
            "interleave": self.interleave,
            "wavelengths": _list(self.wavelengths),
            "wavelength_units": None if self.wavelengths is None else "nm",
            "fwhm": _list(self.fwhm),
            "crs": self.crs,
            "affine": _list(self.affine),
            "nodata": nodata,
            "scale": _list(self.scale),
            "offset": _list(self.offset),
            "bad_bands": None if self.bad_bands is None else [bool(bad) for bad in self.bad_bands],
            **self.more,
        }

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The fields that are there: (c,), (6,) or 0-d."""
        numbers = ("wavelengths", "fwhm", "affine", "nodata", "scale", "offset")
        fields = {
            name: np.asarray(value, float) for name in numbers if (value := getattr(self, name)) is not None
        }
        if self.bad_bands is not None:
            fields["bad_bands"] = np.asarray(self.bad_bands, bool)
        if self.crs is not None:
            fields["crs"] = np.array(self.crs)
        return fields

    def checked(self, stored: int) -> "Facts":
        """Hold the claims of a header against the caps, `stored` being the bytes there are; BadSample."""
        height, width, bands = self.shape
        if min(self.shape) < 1:
            raise BadSample("empty", f"want at least one pixel and one band, got {self.shape} (h, w, c)")
        if bands > MAX_BANDS or max(height, width) > MAX_SIDE:
            limits = f"{MAX_BANDS} bands and {MAX_SIDE:,} pixels a side"
            raise BadSample("too-large", f"want at most {limits}, got {self.shape} (h, w, c)")
        if self.dtype.kind not in "biufc" or self.dtype.itemsize > 16 or self.dtype.name == "float128":
            raise BadSample("unsupported", f"want bool, integer, float or complex values, got {self.dtype}")
        decoded = height * width * bands * self.dtype.itemsize
        if decoded > max(stored, 4096) * MAX_RATIO:
            raise BadSample("too-large", f"{stored:,} bytes claim to hold {decoded:,}; not plausible")
        return replace(self, **{name: self._fit(name) for name in _PER_BAND})

    def _fit(self, name: str) -> Any:
        """A per-band list of another length, or with a NaN, says nothing about these bands."""
        value = getattr(self, name)
        if value is None or np.ndim(value) == 0:
            return value
        fits = len(value) == self.shape[2] and bool(np.isfinite(np.asarray(value, float)).all())
        return value if fits else None


_PER_BAND = ("wavelengths", "fwhm", "scale", "offset", "bad_bands")


def _list(value: Any) -> Any:
    return None if value is None else np.asarray(value, float).tolist()


@dataclass(frozen=True, kw_only=True)
class Scene:
    """An opened cube. `planes` are further (h, w) or (h, w, k) fields, `extras` those without pixels."""

    facts: Facts
    read: Callable[[Window], NDArray[Any]]  # (h, w, c) as stored
    planes: Mapping[str, Callable[[Window], NDArray[Any]]] = field(default_factory=dict)
    extras: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def arrays(self, window: Window | None = None, *, owned: bool = True) -> dict[str, NDArray[Any]]:
        """All fields of a window, or of the whole scene, in native byte order; refuses too large a one.

        `owned` False: the cube as its decoder laid it out, with whatever strides and byte order.
        """
        height, width, bands = self.facts.shape
        window = window or Window(0, 0, height, width)
        if (
            window.y < 0
            or window.x < 0
            or window.y + window.height > height
            or window.x + window.width > width
        ):
            raise ValueError(f"want a window inside {height} x {width}, got {window}")
        check_decoded("cube", (window.height, window.width, bands), self.facts.dtype.itemsize)
        cube = native(self.read(window)) if owned else self.read(window)
        if cube.shape != (window.height, window.width, bands):
            raise BadSample("corrupt", f"want {(window.height, window.width, bands)}, read {cube.shape}")
        planes = {name: native(read(window)) for name, read in self.planes.items()}
        fields = self.facts.arrays()
        if "affine" in fields:
            fields["affine"] = shift(fields["affine"], window.y, window.x)
        return {"cube": cube, **fields, **self.extras, **planes}


class Reader(Protocol):
    """A module of `readers/`: one format.

    `matches(head)` knows it by the first bytes; `SUFFIXES` are the extensions it goes by; `probe` reads the
    header in pure Python; `open` gives the scene, whose windows are read one at a time.
    """

    SUFFIXES: tuple[str, ...]

    def matches(self, head: bytes) -> bool: ...
    def probe(self, raw: Raw) -> Meta: ...
    def open(self, raw: Raw) -> AbstractContextManager[Scene]: ...


def native(array: NDArray[Any]) -> NDArray[Any]:
    """Contiguous, this machine's byte order, owned."""
    return np.array(array, dtype=array.dtype.newbyteorder("="), order="C")


def shift(affine: NDArray[np.float64], rows: int, columns: int) -> NDArray[np.float64]:
    """The affine of a window whose first pixel is (rows, columns)."""
    a, b, c, d, e, f = affine
    return np.array([a, b, a * columns + b * rows + c, d, e, d * columns + e * rows + f])
