"""Numbers that tell a good cube from a bad one, and a fingerprint that finds it again."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modalities.base import Arrays

_MAX_PIXELS = 65536  # looked at; a regular grid of them, so the same every time


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
    wavelength_min_nm, wavelength_max_nm, bad_band_share.
    """
    small = sampled(arrays)
    cube, valid = small["cube"], valid_values(small)
    numbers = {
        "bands": float(cube.shape[2]),
        "nan_share": float(1 - np.isfinite(cube).mean()),
        "nodata_share": float((np.isfinite(cube) & ~valid).mean()),
        "bad_band_share": float(1 - good_bands(arrays).mean()) if "bad_bands" in arrays else 0.0,
    }
    if "wavelengths" in arrays:
        nm = arrays["wavelengths"]
        numbers |= {"wavelength_min_nm": float(nm.min()), "wavelength_max_nm": float(nm.max())}
    if not valid.any():
        return numbers
    values = real(cube)
    held = values[valid].astype(np.float64)
    top = float(np.iinfo(cube.dtype).max) if cube.dtype.kind in "iu" else float(held.max())
    low, high = np.percentile(held, (2, 98))
    numbers |= {"mean": float(held.mean()), "std": float(held.std()), "p2": float(low), "p98": float(high)}
    numbers["saturation"] = float((held >= top).mean()) if held.max() > held.min() else 0.0
    keep = good_bands(arrays)
    return numbers | _signal(np.where(valid, values, np.nan)[:, :, keep])


def _signal(values: NDArray[np.float32]) -> dict[str, float]:
    """Snr and band_correlation of (h, w, c) with NaN where nothing is known."""
    found = {}
    height, width, bands = values.shape
    if height >= 3 and width >= 3:
        v = values
        cross = v[:-2, 1:-1] + v[2:, 1:-1] + v[1:-1, :-2] + v[1:-1, 2:]
        corners = v[:-2, :-2] + v[:-2, 2:] + v[2:, :-2] + v[2:, 2:]
        residual = np.abs(corners - 2 * cross + 4 * v[1:-1, 1:-1]).reshape(-1, bands)
        full = np.isfinite(residual).any(axis=0)
        noise = np.nanmean(residual[:, full], axis=0) * np.sqrt(np.pi / 2) / 6
        mean = np.nanmean(np.abs(v[1:-1, 1:-1][:, :, full]), axis=(0, 1))
        if (some := noise > 0).any():
            found["snr"] = float(np.median(mean[some] / noise[some]))
    flat = values.reshape(-1, bands)
    flat = flat[np.isfinite(flat).all(axis=1)].astype(np.float64)
    if bands > 1 and len(flat) > 2:
        centred = flat - flat.mean(axis=0)
        power = (centred**2).mean(axis=0)
        both = power[:-1] * power[1:]
        if (some := both > 0).any():
            covariance = (centred[:, :-1] * centred[:, 1:]).mean(axis=0)
            found["band_correlation"] = float(np.median(covariance[some] / np.sqrt(both[some])))
    return found


def fingerprint(arrays: Arrays) -> int:
    """64 bits that gain, offset, noise and resampling change little.

    48 of the mean image: is each of 6 x 8 cells darker than its right neighbour; 16 of the mean spectrum:
    does it rise.
    """
    small = sampled(arrays)
    valid = valid_values(small)
    keep = good_bands(arrays)
    values = np.where(valid, real(small["cube"]), 0)[:, :, keep].astype(np.float64)
    count = valid[:, :, keep]
    image = values.sum(axis=2) / np.maximum(count.sum(axis=2), 1)
    spectrum = values.sum(axis=(0, 1)) / np.maximum(count.sum(axis=(0, 1)), 1)
    cells = _pool(_pool(image, 6, 0), 9, 1)
    shape = _pool(spectrum, 17, 0)
    bits = np.concatenate([(np.diff(cells, axis=1) > 0).ravel(), np.diff(shape) > 0])
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def _pool(values: NDArray[np.float64], count: int, axis: int) -> NDArray[np.float64]:
    """Means over `count` equal spans of an axis, by linear interpolation of its running sum."""
    length = values.shape[axis]
    total = np.concatenate([np.zeros_like(values.take([0], axis)), values.cumsum(axis)], axis)
    at = np.linspace(0, length, count + 1)
    low = np.minimum(at.astype(int), length - 1)
    shape = [-1 if i == axis else 1 for i in range(values.ndim)]
    part = (at - low).reshape(shape)
    sums = total.take(low, axis) * (1 - part) + total.take(low + 1, axis) * part
    means: NDArray[np.float64] = np.diff(sums, axis=axis) * (count / length)
    return means
