"""Cubes as a model takes them: one size, about 0 to 1."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modalities.base import Arrays
from modalities.hyperspectral.quality import good_bands, real, sampled, valid_values
from modalities.hyperspectral.transforms import nearest, take_bands

IGNORE = -1  # class number of pixels outside the image or without data
DROPPED = 0.1  # share of bands set to zero when augmenting
JITTER = 0.1  # largest gain error, and 1 % offset, of the augmented spectrum


def prepare(
    arrays: Arrays,
    *,
    size: int = 32,
    rng: np.random.Generator | None = None,
    bands: int | Sequence[float] | None = None,
) -> Arrays:
    """-> `cube` float32 (c, size, size), `wavelengths` float32 (c,) nm, `segmentation` int64 (size, size).

    Values: reflectance where the scale is known, or where floats already look like it; else divided by the
    99.5th percentile of the whole cube; clipped to [0, 1]; no data is 0. Wavelengths are 0 when unknown.
    Classes come from `segmentation`, else the largest of `abundances`; -1 means ignore.
    bands: None takes all, a number that many good ones evenly spaced, wavelengths in nm the nearest ones.
    rng: None takes the centre; otherwise a random place, flips, a smooth gain error, and bands dropped.
    """
    if size < 1:
        raise ValueError(f"want size >= 1, got {size}")
    labels = _labels(arrays)
    arrays = _chosen(arrays, bands)
    valid = valid_values(arrays)
    divisor = 1.0 if _is_reflectance(arrays) else _bright(arrays)
    height, width, count = arrays["cube"].shape
    y, x = (_start(length, size, rng) for length in (height, width))
    rows, columns = slice(max(y, 0), max(y, 0) + size), slice(max(x, 0), max(x, 0) + size)
    values = real(arrays["cube"][rows, columns])
    if "scale" in arrays or "offset" in arrays:
        values = values * arrays.get("scale", np.array(1.0)) + arrays.get("offset", np.array(0.0))
    values = np.where(valid[rows, columns], values / divisor, 0).clip(0, 1).astype(np.float32)
    cube = _placed(values, size, y, x, 0)
    found = {"wavelengths": arrays.get("wavelengths", np.zeros(count)).astype(np.float32)}
    if labels is not None:
        kept = np.where(valid[rows, columns].any(axis=2), labels[rows, columns], IGNORE)
        found["segmentation"] = _placed(kept.astype(np.int64), size, y, x, IGNORE)
    if rng is not None:
        cube = _disturbed(cube, rng)
        for axis in (0, 1):
            if rng.random() < 0.5:
                cube = np.flip(cube, axis)
                if "segmentation" in found:
                    found["segmentation"] = np.ascontiguousarray(np.flip(found["segmentation"], axis))
    return {"cube": np.ascontiguousarray(cube.transpose(2, 0, 1)), **found}


def _labels(arrays: Arrays) -> NDArray[Any] | None:
    if "segmentation" in arrays:
        return arrays["segmentation"]
    return arrays["abundances"].argmax(axis=2) if "abundances" in arrays else None


def _chosen(arrays: Arrays, bands: int | Sequence[float] | None) -> Arrays:
    if bands is None:
        return arrays
    if isinstance(bands, int):
        good = np.flatnonzero(good_bands(arrays))
        if bands < 1:
            raise ValueError(f"want at least one band, got {bands}")
        return take_bands(arrays, good[np.linspace(0, len(good) - 1, bands).round().astype(int)])
    return take_bands(arrays, nearest(arrays, bands))


def _is_reflectance(arrays: Arrays) -> bool:
    """The scale is known, or floats lie in [-0.5, 2] but for one value in two hundred."""
    if "scale" in arrays:
        return True
    return arrays["cube"].dtype.kind == "f" and _bright(arrays) <= 2


def _bright(arrays: Arrays) -> float:
    """99.5th percentile of the valid values, of a regular sample of pixels; 1 when there are none above 0."""
    small = sampled(arrays)
    held = real(small["cube"])[valid_values(small)]
    top = float(np.percentile(held, 99.5)) if held.size else 0.0
    return top if top > 0 else 1.0


def _start(length: int, size: int, rng: np.random.Generator | None) -> int:
    """First row of the crop; negative when the image is smaller and is placed inside."""
    room = length - size
    if rng is None or room <= 0:
        return room // 2
    return int(rng.integers(0, room + 1))


def _placed(values: NDArray[Any], size: int, y: int, x: int, fill: int) -> NDArray[Any]:
    if values.shape[:2] == (size, size):
        return values
    out = np.full((size, size, *values.shape[2:]), fill, values.dtype)
    top, left = max(-y, 0), max(-x, 0)
    out[top : top + values.shape[0], left : left + values.shape[1]] = values
    return out


def _disturbed(cube: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """A gain that varies smoothly along the spectrum, a small offset, some bands dropped."""
    count = cube.shape[2]
    knots = rng.uniform(1 - JITTER, 1 + JITTER, 4)
    gain = np.interp(np.linspace(0, 3, count), np.arange(4), knots)
    keep = np.asarray(rng.random(count) >= DROPPED)
    keep[rng.integers(count)] = True  # never all
    out: NDArray[np.float32] = (
        (cube * gain + rng.uniform(-0.01, 0.01) * (cube > 0)).clip(0, 1) * keep
    ).astype(np.float32)
    return out
