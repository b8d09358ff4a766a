"""64 bits that stay put when points are reordered, jittered, thinned, moved or scaled."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from modalities.base import Arrays
from modalities.pointcloud.thinning import thin

_CELLS = 12  # a side
_REACH = 3.0  # in standard deviations from the centre; what lies farther counts to the border
_REFERENCES = 200


def fingerprint(arrays: Arrays) -> int:
    """Signs of 64 fixed projections of a smooth occupancy grid; 0 for a cloud without finite points.

    The grid is centred and scaled by the spread over all axes: shape and heading count, place and unit not.
    """
    points = thin(arrays["points"])
    if not len(points):
        return 0
    points = points[np.lexsort(points.T)]  # sums round alike in any order of the source
    points -= points.mean(axis=0)
    spread = float(np.sqrt((points**2).mean()))
    grid = np.sqrt(_splat(points / spread if spread > 0 else points))
    bits = (_projections() @ (grid - _expected())).reshape(64) > 0
    return sum(1 << i for i, bit in enumerate(bits.tolist()) if bit)


def _splat(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shares of the points on the grid (cells ** 3,), each spread over its eight nearest cells."""
    place = np.clip((points / _REACH + 1) / 2, 0, 1) * (_CELLS - 1)
    low = np.minimum(place.astype(np.int64), _CELLS - 2)
    part = place - low
    grid: NDArray[np.float64] = np.zeros(_CELLS**3)
    for corner in np.ndindex(2, 2, 2):
        weight = np.prod(np.where(np.array(corner, bool), part, 1 - part), axis=1)
        index = np.ravel_multi_index(tuple((low + corner).T), (_CELLS,) * 3)
        grid += np.bincount(index, weight, _CELLS**3)
    return grid / len(points)


@lru_cache(maxsize=1)
def _expected() -> NDArray[np.float64]:
    """Mean grid of smooth clouds of many proportions.

    Without it all fingerprints would share the bits that say "dense in the middle".
    """
    rng = np.random.Generator(np.random.PCG64(1))
    axis = (np.arange(_CELLS) / (_CELLS - 1) * 2 - 1) * _REACH
    total = np.zeros(_CELLS**3)
    for _ in range(_REFERENCES):
        widths = np.exp(rng.normal(0, 0.8, 3))
        widths = np.maximum(widths / np.sqrt((widths**2).mean()), 0.25)  # no thinner than half a cell
        x, y, z = (np.exp(-((axis / width) ** 2) / 2) for width in widths)
        grid = x[:, None, None] * y[:, None] * z
        total += np.sqrt(grid / grid.sum()).reshape(-1)
    return total / _REFERENCES


@lru_cache(maxsize=1)
def _projections() -> NDArray[np.float64]:
    """(64, cells ** 3), a little smooth: white noise would answer to the jitter of single cells."""
    noise = np.random.Generator(np.random.PCG64(64)).standard_normal((64, _CELLS, _CELLS, _CELLS))
    for axis in (1, 2, 3):
        noise = (np.roll(noise, 1, axis) + 2 * noise + np.roll(noise, -1, axis)) / 4
    return noise.reshape(64, -1)
