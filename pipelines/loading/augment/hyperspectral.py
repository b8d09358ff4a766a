"""Steps for cubes: arrays with `cube` (h, w, c) as stored, perhaps `segmentation` and `abundances`."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modalities import hyperspectral
from modalities.base import Arrays
from modalities.hyperspectral.transforms import PER_PIXEL
from pipelines.loading.augment.chain import Change

Rng = np.random.Generator


def crop(arrays: Arrays, rng: Rng, *, size: int = 32) -> Arrays:
    """A random square of `size` pixels, with its coordinates; all of a side that is shorter."""
    height, width = arrays["cube"].shape[:2]
    tall, wide = min(size, height), min(size, width)
    y, x = int(rng.integers(height - tall + 1)), int(rng.integers(width - wide + 1))
    change = hyperspectral.MODALITY.transforms["crop"]
    return change(arrays, y=y, x=x, height=tall, width=wide)


def flip(arrays: Arrays, rng: Rng, *, probability: float = 0.5) -> Arrays:
    """Each spatial axis mirrored with `probability`; classes and abundances along."""
    axes = tuple(axis for axis in (0, 1) if rng.random() < probability)
    return _turned(arrays, lambda a: np.flip(a, axes)) if axes else arrays


def quarter_turns(arrays: Arrays, rng: Rng) -> Arrays:
    """None to three quarter turns."""
    turns = int(rng.integers(4))
    return _turned(arrays, lambda a: np.rot90(a, turns)) if turns else arrays


def _turned(arrays: Arrays, how: Callable[[NDArray[Any]], NDArray[Any]]) -> Arrays:
    return {
        **arrays,
        **{name: np.ascontiguousarray(how(arrays[name])) for name in PER_PIXEL if name in arrays},
    }


def band_dropout(arrays: Arrays, rng: Rng, *, share: float = 0.1) -> Arrays:
    """Each band set to zero with probability `share`, at least one kept."""
    count = arrays["cube"].shape[2]
    kept = np.asarray(rng.random(count) >= share)
    kept[rng.integers(count)] = True
    return {**arrays, "cube": arrays["cube"] * kept.astype(arrays["cube"].dtype)}


def spectral_jitter(arrays: Arrays, rng: Rng, *, gain: float = 0.1, noise: float = 0.01) -> Arrays:
    """A gain of 1 -+ `gain` that varies smoothly along the spectrum, and `noise` of each value."""
    cube = arrays["cube"]
    count = cube.shape[2]
    curve = np.interp(np.linspace(0, 3, count), np.arange(4), rng.uniform(1 - gain, 1 + gain, 4))
    values = cube.astype(np.float32) * curve.astype(np.float32)
    values *= 1 + np.float32(noise) * rng.standard_normal(cube.shape, np.float32)
    if cube.dtype.kind in "ui":
        limits = np.iinfo(cube.dtype)
        values = np.clip(np.rint(values), limits.min, limits.max)
    jittered = values.astype(cube.dtype)
    if "nodata" in arrays:
        jittered = np.where(cube == arrays["nodata"].astype(cube.dtype), cube, jittered)
    return {**arrays, "cube": jittered}


STEPS: dict[str, Change] = {
    "crop": crop,
    "flip": flip,
    "quarter_turns": quarter_turns,
    "band_dropout": band_dropout,
    "spectral_jitter": spectral_jitter,
}
