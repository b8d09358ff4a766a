"""Numbers that tell a good cube from a bad one, and a fingerprint that finds it again."""

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modalities.base import Arrays

_MAX_PIXELS = 65536  # looked at; a regular grid of them, so the same every time
_MAX_VALUES, _MIN_PIXELS = 2**14, 1024  # that quality is taken from; pixels whatever the number of bands
_SIDE = 8  # of its windows


def valid_values(arrays: Arrays) -> NDArray[np.bool_]:
    """(h, w, c): neither NaN, infinite, nor the nodata value."""
    cube = arrays["cube"]
    valid = np.asarray(np.isfinite(cube))
    if "nodata" in arrays and np.isfinite(nodata := float(arrays["nodata"])):
        valid &= cube != nodata
    return valid


def valid_pixels(arrays: Arrays) -> NDArray[np.bool_]:
    """(h, w): at least one band holds a value."""
    return np.asarray(valid_values(arrays).any(axis=2))


def good_bands(arrays: Arrays) -> NDArray[np.bool_]:
    """(c,): not listed as bad; all of them where all are listed."""
    bands = arrays["cube"].shape[2]
    good = ~arrays["bad_bands"].astype(bool) if "bad_bands" in arrays else np.ones(bands, bool)
    return good if good.any() else np.ones(bands, bool)


def sampled(arrays: Arrays) -> dict[str, NDArray[Any]]:
    """The cube thinned to at most _MAX_PIXELS pixels, with the fields that say what is valid."""
    height, width, _ = arrays["cube"].shape
    step = max(1, int(np.ceil(np.sqrt(height * width / _MAX_PIXELS))))
    return {**arrays, "cube": arrays["cube"][::step, ::step]}


def real(cube: NDArray[Any]) -> NDArray[np.float32]:
    """float32; the magnitude of complex values."""
    values: NDArray[np.float32] = (np.abs(cube) if cube.dtype.kind == "c" else cube).astype(np.float32)
    return values


def quality(arrays: Arrays) -> Mapping[str, float]:
    """Named numbers; shares are of values, 0 to 1. What cannot be known is left out.

    nan_share, nodata_share, saturation (values at their type's or the cube's maximum), mean, std, p2 and p98
    of valid values as stored, snr (median over bands of mean / noise, the noise from differences of
    neighbours, after Immerkaer 1996), band_correlation (median of neighbouring bands),
    wavelength_min_nm, wavelength_max_nm, bad_band_share. Of a large cube they are those of a regular grid of
    pixels, snr and band_correlation those of windows of 8 x 8 pixels spread evenly.
    """
    cube, grid = arrays["cube"], sampled(arrays)["cube"].transpose(2, 0, 1)
    known, valid = _known(grid, arrays)
    numbers = {
        "bands": float(cube.shape[2]),
        "nan_share": 0.0 if known is None else float(1 - known.mean()),
        "nodata_share": 0.0 if known is None or valid is None else float((known & ~valid).mean()),
        "bad_band_share": float(1 - good_bands(arrays).mean()) if "bad_bands" in arrays else 0.0,
    }
    if "wavelengths" in arrays:
        nm = arrays["wavelengths"]
        numbers |= {"wavelength_min_nm": float(nm.min()), "wavelength_max_nm": float(nm.max())}
    held = _values(cube) if valid is None else grid[valid]
    if held.size:
        if held.size > 2 * _MAX_VALUES:  # evenly, and not in step with rows or bands
            held = held[np.arange(2 * _MAX_VALUES - 1) * held.size // (2 * _MAX_VALUES - 1)]
        numbers |= _levels(real(held).astype(np.float64), cube.dtype)
        seen = _windows(cube)
        there = None if valid is None else _known(seen, arrays)[1]
        if there is not None and valid is not None and not there.any():  # little of the cube holds anything
            seen, there = np.ascontiguousarray(grid)[:, None], valid[:, None]
        values = real(seen)
        if there is not None:
            values[~there] = np.nan
        keep = good_bands(arrays)
        numbers |= _signal(values if keep.all() else values[keep], whole=there is None)
    return numbers


def _levels(held: NDArray[np.float64], dtype: np.dtype[Any]) -> dict[str, float]:
    """Numbers of valid values (n,), which were stored as `dtype`."""
    least, most, mean = float(held.min()), float(held.max()), float(held.mean())
    top = float(np.iinfo(dtype).max) if dtype.kind in "iu" else most
    ordered = np.sort(held)
    low, high = (float(ordered[round(part * (len(held) - 1))]) for part in (0.02, 0.98))
    # In numpy's own order: a BLAS sums in one that depends on the processor and on how many threads it has.
    std = float(np.sqrt(np.square(held - mean).sum() / held.size))
    return {
        "saturation": float((held >= top).mean()) if most > least else 0.0,
        "mean": mean, "std": std, "p2": low, "p98": high,
    }  # fmt: skip


def _values(cube: NDArray[Any]) -> NDArray[Any]:
    """(n,): all bands of a regular grid of pixels."""
    height, width, bands = cube.shape
    pixels = max(_MIN_PIXELS, _MAX_VALUES // bands)
    step = max(1, math.ceil(math.sqrt(height * width / pixels)))
    return cube[step // 2 :: step, step // 2 :: step].reshape(-1)


def _windows(cube: NDArray[Any]) -> NDArray[Any]:
    """(c, windows, y, x): neighbours stay neighbours; all pixels in one window where they are few."""
    height, width, bands = cube.shape
    pixels = max(_MIN_PIXELS, _MAX_VALUES // bands)
    if height * width <= pixels:
        return np.ascontiguousarray(cube.transpose(2, 0, 1))[:, None]
    sides = min(_SIDE, height), min(_SIDE, width)
    down, across = height // sides[0], width // sides[1]
    most = pixels / (sides[0] * sides[1])
    step_down = min(down, math.ceil(math.sqrt(down * across / most)))
    step_across = math.ceil(down * across / most / step_down)
    every = np.lib.stride_tricks.sliding_window_view(cube, sides, axis=(0, 1))
    some = every[:: sides[0] * step_down, :: sides[1] * step_across]
    return np.ascontiguousarray(some.transpose(2, 0, 1, 3, 4)).reshape(bands, -1, *sides)


def _known(values: NDArray[Any], arrays: Arrays) -> tuple[NDArray[np.bool_] | None, NDArray[np.bool_] | None]:
    """Which values are finite, and which of them are not the nodata value; valid is None where all are."""
    nodata = float(arrays["nodata"]) if "nodata" in arrays else np.nan
    if values.dtype.kind not in "fc" and not np.isfinite(nodata):
        return None, None
    finite = np.asarray(np.isfinite(values))
    valid = finite & (values != nodata) if np.isfinite(nodata) else finite
    return finite, None if valid.all() else valid


def _signal(values: NDArray[np.float32], *, whole: bool) -> dict[str, float]:
    """Snr and band_correlation of (c, windows, y, x) with NaN where nothing is known; `whole`: no NaN."""
    found = {}
    bands, _, height, width = values.shape
    average = np.mean if whole else np.nanmean
    if height >= 3 and width >= 3:
        inner = values[..., 1:-1]
        across = values[..., :-2] + values[..., 2:] - (inner + inner)
        inner = across[..., 1:-1, :]
        residual = np.abs(across[..., :-2, :] + across[..., 2:, :] - (inner + inner)).reshape(bands, -1)
        level = np.abs(values[..., 1:-1, 1:-1]).reshape(bands, -1)
        if not whole:
            full = np.isfinite(residual).any(axis=1)
            residual, level = residual[full], level[full]
        noise = np.asarray(average(residual, axis=1, dtype=np.float64)) * np.sqrt(np.pi / 2) / 6
        mean = np.asarray(average(level, axis=1, dtype=np.float64))
        if (some := noise > 0).any():
            found["snr"] = float(np.median(mean[some] / noise[some]))
    flat = values.reshape(bands, -1).astype(np.float64)
    if not whole:
        flat = flat[:, np.isfinite(flat).all(axis=0)]
    if bands > 1 and flat.shape[1] > 2:
        flat -= flat.mean(axis=1, keepdims=True)
        power = np.square(flat).sum(axis=1)  # in numpy's own order, as above
        both = power[:-1] * power[1:]
        if (some := both > 0).any():
            covariance = (flat[:-1] * flat[1:]).sum(axis=1)
            found["band_correlation"] = float(np.median(covariance[some] / np.sqrt(both[some])))
    return found


def fingerprint(arrays: Arrays) -> int:
    """64 bits that gain, offset, noise and resampling change little.

    48 of the mean image: is each of 6 x 8 cells darker than its right neighbour; 16 of the mean spectrum:
    does it rise.
    """
    small = sampled(arrays)["cube"]
    height, width, _ = small.shape
    image, spectrum = _means(small, arrays, good_bands(arrays))
    cells = _spans(6, height) @ image @ _spans(9, width).T
    shape = _spans(17, len(spectrum)) @ spectrum
    rises = np.concatenate([_rises(cells).ravel(), _rises(shape)])
    return int.from_bytes(np.packbits(rises).tobytes(), "big")


def _means(
    cube: NDArray[Any], arrays: Arrays, keep: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean image (h, w) and mean spectrum (c,) of what is valid in the bands to keep, 0 where nothing is."""
    height, width, _ = cube.shape
    planes = cube.transpose(2, 0, 1) if keep.all() else cube.transpose(2, 0, 1)[keep]
    _, valid = _known(planes, arrays)
    # Of up to 256 bands of 16-bit integers even float32 sums exactly.
    exact = planes.dtype.kind in "iu" and planes.dtype.itemsize <= 2 and len(planes) <= 256
    values = np.abs(planes) if planes.dtype.kind == "c" else planes
    values = np.ascontiguousarray(values, np.float32 if exact else np.float64).reshape(len(planes), -1)
    ones = np.ones(len(planes), values.dtype)
    if valid is None:
        image, spectrum = ones @ values / len(planes), values.mean(axis=1, dtype=np.float64)
    else:
        there = np.ascontiguousarray(valid).reshape(values.shape)
        values = np.where(there, values, 0)
        image = ones @ values / np.maximum(there.sum(axis=0), 1)
        spectrum = values.sum(axis=1, dtype=np.float64) / np.maximum(there.sum(axis=1), 1)
    return image.reshape(height, width).astype(np.float64), spectrum


def _rises(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether each is above the one before, by more than sums are off by."""
    rises: NDArray[np.bool_] = np.diff(values, axis=-1) > 1e-9 * np.abs(values).max(initial=0.0)
    return rises


@lru_cache(maxsize=256)
def _spans(count: int, length: int) -> NDArray[np.float64]:
    """(count, length): means over equal spans of an axis, a value that lies in two being shared out."""
    edges = np.linspace(0, length, count + 1)
    at = np.arange(length)
    inside = np.minimum(edges[1:, None], at + 1) - np.maximum(edges[:-1, None], at)
    weights: NDArray[np.float64] = np.maximum(inside, 0) * (count / length)
    return weights
