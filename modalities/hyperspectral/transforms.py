"""What a job may do to a cube: choose bands, scale to reflectance, crop."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modalities.base import Arrays, BadSample
from modalities.hyperspectral.quality import valid_values
from modalities.hyperspectral.schema import shift

PER_BAND = ("wavelengths", "fwhm", "bad_bands", "scale", "offset", "endmembers")
PER_PIXEL = ("cube", "segmentation", "abundances")


def take_bands(arrays: Arrays, chosen: NDArray[np.intp]) -> dict[str, NDArray[Any]]:
    """The bands `chosen`, in that order, with everything that has an entry a band."""
    fields = {**arrays, "cube": arrays["cube"][:, :, chosen]}
    for name in PER_BAND:
        if name in fields and fields[name].ndim:
            fields[name] = fields[name][chosen]
    return fields


def nearest(arrays: Arrays, nm: Sequence[float]) -> NDArray[np.intp]:
    """Index of the band nearest to each wavelength; BadSample without wavelengths."""
    if "wavelengths" not in arrays:
        raise BadSample("unsupported", "bands wanted by wavelength, the cube names none; give indices")
    found: NDArray[np.intp] = np.abs(arrays["wavelengths"] - np.asarray(nm, float)[:, None]).argmin(axis=1)
    return found


def bands(
    arrays: Arrays,
    *,
    ranges: Sequence[Sequence[float]] | None = None,
    indices: Sequence[int] | None = None,
    drop_bad: bool = True,
) -> Arrays:
    """Keep bands whose centre is in one of `ranges` [low, high] nm, or those numbered; bad ones dropped."""
    count = arrays["cube"].shape[2]
    chosen = np.arange(count)
    if indices is not None:
        chosen = np.asarray(indices, dtype=np.intp)
        if chosen.size and (chosen.min() < -count or chosen.max() >= count):
            raise BadSample("unsupported", f"want indices of {count} bands, got {list(indices)}")
        chosen = chosen % count
    if ranges is not None:
        if "wavelengths" not in arrays:
            raise BadSample("unsupported", "bands wanted by wavelength, the cube names none; give indices")
        nm = arrays["wavelengths"][chosen]
        chosen = chosen[np.any([(low <= nm) & (nm <= high) for low, high in ranges], axis=0)]
    if drop_bad and "bad_bands" in arrays:
        chosen = chosen[~arrays["bad_bands"][chosen].astype(bool)]
    if not len(chosen):
        raise BadSample("unsupported", f"no band of {count} is left by ranges={ranges}, indices={indices}")
    return take_bands(arrays, chosen)


def scale(arrays: Arrays, *, factor: float | None = None) -> Arrays:
    """Stored values -> float32 physical ones, `stored * scale + offset`; nodata becomes NaN.

    Integers without `scale` want `factor`, reflectance = stored * factor: guessing would be silent.
    """
    cube = arrays["cube"]
    if factor is None and "scale" not in arrays and cube.dtype.kind in "iu":
        raise BadSample("unsupported", f"the {cube.dtype} cube names no scale; give factor=, say 0.0001")
    by = arrays.get("scale", np.array(1.0)) if factor is None else np.array(factor)
    values = np.where(valid_values(arrays), cube * by + arrays.get("offset", np.array(0.0)), np.nan)
    kept = {name: value for name, value in arrays.items() if name not in ("scale", "offset", "nodata")}
    nodata = {"nodata": np.array(np.nan)} if "nodata" in arrays or np.isnan(values).any() else {}
    dtype = np.complex64 if cube.dtype.kind == "c" else np.float32
    return {**kept, **nodata, "cube": values.astype(dtype)}


def crop(arrays: Arrays, *, y: int, x: int, height: int, width: int) -> Arrays:
    """Pixels [y, y + height) x [x, x + width), the affine moved along."""
    rows, columns, _ = arrays["cube"].shape
    if y < 0 or x < 0 or height < 1 or width < 1 or y + height > rows or x + width > columns:
        raise BadSample("unsupported", f"want a crop inside {rows} x {columns}, got {(y, x, height, width)}")
    fields = dict(arrays)
    for name in PER_PIXEL:
        if name in fields:
            fields[name] = np.ascontiguousarray(fields[name][y : y + height, x : x + width])
    if "affine" in fields:
        fields["affine"] = shift(fields["affine"], y, x)
    return fields
