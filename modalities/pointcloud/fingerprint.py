"""64 bits that stay put when points are reordered, jittered, thinned, moved or scaled."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from modalities.base import Arrays
from modalities.pointcloud.thinning import Axes, thin

_CELLS = 12  # a side
_BITS = 8
_PARTS = 2**_BITS  # of the way from one cell to the next
_REACH = 3.0  # in standard deviations from the centre; what lies farther counts to the border
_STEPS = 2**16 - 1  # coordinates are rounded to this many of the longest side
_REFERENCES = 200


def fingerprint(arrays: Arrays) -> int:
    """Signs of 64 fixed projections of a smooth occupancy grid; 0 for a cloud without finite points.

    The grid is centred and scaled by the spread over all axes: shape and heading count, place and unit not.
    """
    return printed(thin(arrays["points"]))


def printed(points: Axes) -> int:
    """`fingerprint` of points already thinned, in any order: all sums are of whole numbers below 2**53."""
    if not points.size:
        return 0
    low = points.min(axis=1, keepdims=True)
    extent = float((points.max(axis=1, keepdims=True) - low).max())
    steps = np.rint((points - low) * (_STEPS / extent)) if extent > 0 else np.zeros(points.shape)
    grid = np.sqrt(_splat(steps))
    bits = (_projections() @ (grid - _expected())).reshape(64) > 0
    return int.from_bytes(np.packbits(bits, bitorder="little").tobytes(), "little")


def _splat(steps: Axes) -> NDArray[np.float64]:
    """Shares of the points on the grid (cells ** 3,), each spread over its eight nearest cells."""
    count = steps.shape[1]
    mean = steps.sum(axis=1) / count
    flat = steps.reshape(-1)
    spread = np.sqrt(max(float(flat @ flat) / count - float(mean @ mean), 0.0) / 3)
    factor = (_CELLS - 1) / (2 * _REACH * spread) if spread > 0 else 0.0
    place = steps * (factor * _PARTS)
    place += (((_CELLS - 1) / 2 - mean * factor) * _PARTS)[:, None]
    whole = np.clip(place, 0, (_CELLS - 1) * _PARTS - 1, out=place).astype(np.int64)
    i, j, k = whole >> _BITS
    cells = (i * _CELLS + j) * _CELLS + k
    high = (whole & (_PARTS - 1)).astype(np.float64)
    low = _PARTS - high
    grid: NDArray[np.float64] = np.zeros(_CELLS**3)
    for y, z in np.ndindex(2, 2):
        side = (low, high)[y][1] * (low, high)[z][2]
        for x in (0, 1):
            corner = (x * _CELLS + y) * _CELLS + z  # no cell is so near to the end that it would be cut off
            grid[corner:] += np.bincount(cells, side * (low, high)[x][0], len(grid))[: len(grid) - corner]
    grid /= count * _PARTS**3
    return grid


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
