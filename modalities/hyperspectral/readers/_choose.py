"""Which of a container's arrays is the cube, and which say what its bands are.

HDF5, NetCDF, MATLAB and Zarr files name things as they please. The rule, the same for all of them:

cube: the largest numeric array with three axes (ties: first path in order). Two that differ only in VNIR
    and SWIR in their names, and in the number of bands, are one cube, VNIR first (PRISMA).
band axis: the one whose dimension is named like a band; else the one as long as a wavelength vector; else
    what an `interleave` attribute says; else the shortest; ties go to the last. Of the other two, rows
    come first unless the dimensions are named otherwise.
wavelengths, fwhm, bad bands: a vector named like one, as long as the band axis, nearest to the cube by
    path; else an attribute of the cube, of the groups above it, or of the file.
nodata, scale, offset: attributes of the cube. `scale_factor` multiplies (CF), but a factor above one on
    integers divides (NEON); PRISMA's L2Scale...Min and Max span the whole range of uint16.
crs, affine: the CF grid mapping (`crs_wkt`, `spatial_ref`, `GeoTransform`), ENVI's `map info` as text, or
    regular x and y vectors of pixel centres.
labels: an integer array (h, w) named like one.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modalities.base import BadSample, check_decoded
from modalities.hyperspectral.georef import from_centres, from_map_info
from modalities.hyperspectral.schema import Facts, Scene, Window
from modalities.hyperspectral.spectral import numbers, to_nm

BAND = re.compile(r"band|wave|wvl|^wl$|lambda|spectr|channel|freq", re.IGNORECASE)
CENTRE = re.compile(r"wave|wvl|^wl$|lambda|(^|_)cw(_|$)", re.IGNORECASE)
WIDTH = re.compile(r"fwhm|band_?width", re.IGNORECASE)
GOOD = re.compile(r"^bbl$|good_?(wave|band)", re.IGNORECASE)
BAD = re.compile(r"bad_?(wave|band)", re.IGNORECASE)
LABEL = re.compile(r"label|^gt$|_gt$|ground_?truth|segmentation|^mask$|class_?map", re.IGNORECASE)
NOT_CENTRE = re.compile(r"unit|fwhm|width|scale|flag|good|bad", re.IGNORECASE)
COLUMNS = re.compile(r"^(x|lon|longitude|easting|cols?|columns?|samples?|width)$", re.IGNORECASE)
ROWS = re.compile(r"^(y|lat|latitude|northing|rows?|lines?|height)$", re.IGNORECASE)
FILLS = ("_fillvalue", "missing_value", "data_ignore_value", "nodata", "no_data_value")
SCALES = ("scale_factor", "reflectance_scale_factor")
_LONGEST = 2**20  # values of a vector worth reading


@dataclass(frozen=True, kw_only=True)
class Variable:
    """An array of a container. Attributes are plain: text, numbers, lists of numbers."""

    path: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[tuple[slice, ...]], NDArray[Any]]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    dims: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=object))

    def all(self) -> NDArray[Any]:
        check_decoded(self.path, self.shape, self.dtype.itemsize)
        return self.read(tuple(slice(0, n) for n in self.shape))

    def attribute(self, *names: str) -> Any:
        """The first of these attributes, names without case; None if there is none."""
        lower = {key.lower().replace(" ", "_"): value for key, value in self.attributes.items()}
        return next((lower[name] for name in names if name in lower), None)

    @property
    def numeric(self) -> bool:
        return self.dtype.kind in "biufc" and self.size > 0


@dataclass(frozen=True, kw_only=True)
class Part:
    """A cube of the file with its axes in order (h, w, c)."""

    variable: Variable
    axes: tuple[int, int, int]

    @property
    def shape(self) -> tuple[int, int, int]:
        height, width, bands = (self.variable.shape[axis] for axis in self.axes)
        return height, width, bands

    def read(self, window: Window) -> NDArray[Any]:
        """(h, w, c) of a window."""
        keys = [slice(0, n) for n in self.variable.shape]
        keys[self.axes[0]] = slice(window.y, window.y + window.height)
        keys[self.axes[1]] = slice(window.x, window.x + window.width)
        return self.variable.read(tuple(keys)).transpose(self.axes)


def scene(
    variables: Sequence[Variable],
    attributes: Mapping[str, Any],
    *,
    format: str,
    stored: int,
    groups: Mapping[str, Mapping[str, Any]] | None = None,
) -> Scene:
    """Apply the rule; `attributes` are the file's, `groups` {path: attributes}. BadSample without a cube."""
    cubes = _cubes(variables)
    if not cubes:
        listed = ", ".join(f"{v.path} {v.shape}" for v in list(variables)[:12])
        raise BadSample("unsupported", f"want a numeric array with three axes, got {listed or 'no arrays'}")
    parts = [Part(variable=cube, axes=_axes(cube, variables)) for cube in cubes]
    height, width, _ = parts[0].shape
    if len({(part.shape[:2], part.variable.dtype) for part in parts}) > 1:
        parts = parts[-1:]
    bands = sum(part.shape[2] for part in parts)
    facts = Facts(
        format=format,
        shape=(height, width, bands),
        dtype=parts[0].variable.dtype.newbyteorder("="),
        interleave={0: "bsq", 1: "bil", 2: "bip"}[parts[0].axes[2]],
        more={"arrays": [part.variable.path for part in parts]},
        **_spectral(parts, variables, attributes, groups or {}),
        **_values(parts, attributes),
        **_place(parts[0], variables, attributes),
    ).checked(stored)
    planes = _labels(variables, (height, width))

    def read(window: Window) -> NDArray[Any]:
        found = [part.read(window) for part in parts]
        return found[0] if len(found) == 1 else np.concatenate(found, axis=2)

    return Scene(facts=facts, read=read, planes=planes)


def _cubes(variables: Sequence[Variable]) -> list[Variable]:
    cubes = sorted((v for v in variables if v.numeric and len(v.shape) == 3), key=lambda v: (-v.size, v.path))
    if not cubes:
        return []
    twins = {"vnir": "swir", "swir": "vnir"}
    key = re.sub("vnir|swir", lambda match: twins[match[0]], cubes[0].path.lower())
    twin = [cube for cube in cubes if cube.path.lower() == key and cube is not cubes[0]]
    return sorted([cubes[0], *twin], key=lambda v: "swir" in v.path.lower()) if twin else cubes[:1]


def _axes(cube: Variable, variables: Sequence[Variable]) -> tuple[int, int, int]:
    named = [axis for axis, dim in enumerate(cube.dims) if BAND.search(dim)]
    lengths = {_length(v) for v in variables if CENTRE.search(v.name) and not NOT_CENTRE.search(v.name)}
    lengths |= {
        np.size(v) for k, v in cube.attributes.items() if CENTRE.search(k) and not NOT_CENTRE.search(k)
    }
    fitting = [axis for axis in range(3) if cube.shape[axis] in lengths - {1}]
    said = {"bsq": 0, "bil": 1, "bip": 2}.get(str(cube.attribute("interleave", "layout")).lower())
    shortest = [axis for axis in range(3) if cube.shape[axis] == min(cube.shape)]
    if len(named) == 1:
        band = named[0]
    elif len(fitting) == 1:
        band = fitting[0]
    elif said is not None:
        band = said
    else:
        band = (fitting or shortest)[-1]
    first, second = (axis for axis in range(3) if axis != band)
    if len(cube.dims) == 3 and COLUMNS.match(cube.dims[first]) and ROWS.match(cube.dims[second]):
        first, second = second, first
    return first, second, band


def _length(variable: Variable) -> int:
    """Values of a vector, (n,), (n, 1) or (1, n); 0 for anything else."""
    long = [n for n in variable.shape if n != 1]
    fits = variable.numeric and len(variable.shape) <= 2 and len(long) <= 1 and variable.size <= _LONGEST
    return variable.size if fits and variable.shape else 0


def _shared(one: str, other: str) -> int:
    """How many folders two paths have in common."""
    pairs = zip(one.split("/")[:-1], other.split("/")[:-1], strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(one.count("/"), other.count("/")))


def _vector(
    part: Part,
    pattern: re.Pattern[str],
    variables: Sequence[Variable],
    tables: Sequence[Mapping[str, Any]],
    without: re.Pattern[str] | None = None,
) -> tuple[list[float] | None, str | None]:
    """(values, units) of the vector named like `pattern` that is nearest to a cube."""
    bands, path = part.shape[2], part.variable.path
    side = next((side for side in ("vnir", "swir") if side in path.lower()), "")

    def wanted(name: str) -> bool:
        return bool(pattern.search(name)) and not (without and without.search(name))

    near = [v for v in variables if _length(v) == bands and wanted(v.name) and v.dtype.kind in "biuf"]
    near.sort(key=lambda v: (side not in v.name.lower(), -_shared(v.path, path), v.path))
    if near:
        units = near[0].attribute("units", "unit")
        return near[0].all().astype(float).ravel().tolist(), units if isinstance(units, str) else None
    for table in tables:
        keys = sorted((k for k in table if wanted(k)), key=lambda k: (side not in k.lower(), k))
        for key in keys:
            values = numbers(table[key]) if isinstance(table[key], str) else table[key]
            if isinstance(values, list) and len(values) == bands:
                units = next((v for k, v in table.items() if "unit" in k.lower() and CENTRE.search(k)), None)
                return [float(value) for value in values], units if isinstance(units, str) else None
    return None, None


def _spectral(
    parts: Sequence[Part],
    variables: Sequence[Variable],
    attributes: Mapping[str, Any],
    groups: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    found: dict[str, list[Any] | None] = {"wavelengths": [], "fwhm": [], "bad_bands": []}
    for part in parts:
        path = part.variable.path
        above = [
            groups[path[:i]] for i in range(len(path) - 1, 0, -1) if path[i] == "/" and path[:i] in groups
        ]
        tables = [part.variable.attributes, *above, attributes]
        centres, units = _vector(part, CENTRE, variables, tables, NOT_CENTRE)
        widths, _ = _vector(part, WIDTH, variables, tables)
        good, _ = _vector(part, GOOD, variables, tables)
        bad, _ = _vector(part, BAD, variables, tables)
        flags = [value == 0 for value in good] if good else [value != 0 for value in bad] if bad else None
        nm, fwhm = to_nm(centres, units, widths) if centres else (None, None)
        if nm is not None and any(value <= 0 for value in nm):  # PRISMA marks bands without data so
            flags = [value <= 0 or bool(flags and flags[i]) for i, value in enumerate(nm)]
        for key, values in (("wavelengths", nm), ("fwhm", fwhm), ("bad_bands", flags)):
            known = found[key]
            if values is not None and known is not None:
                known.extend(values)
            elif key == "bad_bands" and known is not None and len(parts) > 1:
                known.extend([False] * part.shape[2])
            else:
                found[key] = None
    if found["bad_bands"] is not None and not any(found["bad_bands"]) and len(parts) > 1:
        found["bad_bands"] = None
    return found


def _number(value: Any) -> float | None:
    if isinstance(value, str):
        value = numbers(value)[:1]
    if isinstance(value, list):
        value = value[0] if len(value) == 1 else None
    return float(value) if isinstance(value, int | float) else None


def _values(parts: Sequence[Part], attributes: Mapping[str, Any]) -> dict[str, Any]:
    cube = parts[0].variable
    found: dict[str, Any] = {"nodata": _number(cube.attribute(*FILLS))}
    scale, offset = _number(cube.attribute(*SCALES)), _number(cube.attribute("add_offset"))
    if scale and scale > 1 and cube.dtype.kind in "iu":
        scale = 1 / scale
    found["scale"], found["offset"] = scale or None, offset
    spans = [_span(part, attributes) for part in parts]
    if all(spans):
        both = [span for span in spans if span]
        sizes = [part.shape[2] for part in parts]
        found["scale"] = [s for (s, _), n in zip(both, sizes, strict=True) for _ in range(n)]
        found["offset"] = [o for (_, o), n in zip(both, sizes, strict=True) for _ in range(n)]
    return found


def _span(part: Part, attributes: Mapping[str, Any]) -> tuple[float, float] | None:
    side = "Vnir" if "vnir" in part.variable.path.lower() else "Swir"
    low, high = (_number(attributes.get(f"L2Scale{side}{end}")) for end in ("Min", "Max"))
    return None if low is None or high is None else ((high - low) / 65535, low)


def _place(part: Part, variables: Sequence[Variable], attributes: Mapping[str, Any]) -> dict[str, Any]:
    height, width, _ = part.shape
    cube = part.variable
    grids = [v for v in variables if v.attribute("crs_wkt", "spatial_ref", "geotransform") is not None]
    grids.sort(key=lambda v: (v.name != cube.attribute("grid_mapping"), v.path))
    crs, affine = None, None
    for source in (
        cube,
        *grids[:1],
        Variable(path="", shape=(), dtype=cube.dtype, read=cube.read, attributes=attributes),
    ):
        wkt = source.attribute("crs_wkt", "spatial_ref")
        crs = crs or (wkt if isinstance(wkt, str) and wkt.strip() else None)
        gdal = source.attribute("geotransform")
        values = numbers(gdal) if isinstance(gdal, str) else gdal
        if affine is None and isinstance(values, list) and len(values) == 6:
            c, a, b, f, d, e = (float(value) for value in values)
            affine = [a, b, c, d, e, f]
        info = source.attribute("map_info")
        if isinstance(info, str) and affine is None:
            named, affine = from_map_info(info)
            crs = crs or named
    texts = [v for v in variables if v.name.lower().replace(" ", "_") == "map_info" and v.dtype.kind in "OSU"]
    if affine is None and texts:
        named, affine = from_map_info(_text(texts[0].all()))
        crs = crs or named
    if affine is None:
        along = {"x": _axis(COLUMNS, width, variables), "y": _axis(ROWS, height, variables)}
        if along["x"] is not None and along["y"] is not None:
            affine = from_centres(along["x"].all().ravel().tolist(), along["y"].all().ravel().tolist())
            if affine and crs is None and along["x"].name.lower().startswith("lon"):
                crs = "EPSG:4326"
    return {"crs": crs, "affine": affine}


def _axis(pattern: re.Pattern[str], length: int, variables: Sequence[Variable]) -> Variable | None:
    fits = [v for v in variables if pattern.match(v.name) and _length(v) == length and v.dtype.kind in "iuf"]
    return min(fits, key=lambda v: v.path) if fits else None


def _text(value: NDArray[Any]) -> str:
    one = value.ravel()[0] if value.size else ""
    return one.decode("utf-8", "replace") if isinstance(one, bytes) else str(one)


def _labels(
    variables: Sequence[Variable], shape: tuple[int, int]
) -> dict[str, Callable[[Window], NDArray[Any]]]:
    fits = [v for v in variables if LABEL.search(v.name) and v.shape == shape and v.dtype.kind in "biu"]
    if not fits:
        return {}
    labels = min(fits, key=lambda v: v.path)

    def read(window: Window) -> NDArray[Any]:
        y, x = slice(window.y, window.y + window.height), slice(window.x, window.x + window.width)
        return labels.read((y, x))

    return {"segmentation": read}


def plain(value: Any) -> Any:
    """An attribute as text, number or list of numbers; None for anything else."""
    if isinstance(value, bytes | np.bytes_):
        return value.decode("utf-8", "replace")
    if isinstance(value, str | bool | int | float):
        return value
    array = np.asarray(value)
    if array.dtype.kind in "SU" and array.size == 1:
        return plain(array.ravel()[0].item())
    if array.dtype.kind in "biuf" and array.size <= _LONGEST:
        return array.item() if array.ndim == 0 else array.ravel().tolist()
    return None
