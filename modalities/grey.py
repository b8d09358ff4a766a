"""Counts over a grey picture (h, w) uint8, still or moving: whole numbers up to the last division."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def histogram(grey: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(256,): how many pixels have each level; half the time of bincount."""
    return np.array(Image.fromarray(np.ascontiguousarray(grey)).histogram())


def laplacian_variance(grey: NDArray[np.uint8]) -> float:
    """Of 4 neighbours, without the outermost pixels; 0 below 3 x 3."""
    height, width = grey.shape
    if min(height, width) < 3:
        return 0.0
    flat = grey.reshape(-1).astype(np.int16)  # rows end to end: what wraps around falls on the border
    sums = flat[: -2 * width] + flat[2 * width :]
    sums[1:] += flat[width : -width - 1]
    sums[:-1] += flat[width + 1 : -width]
    sums -= flat[width:-width] << 2
    # Every sum below 2**53 is exact in any order.
    inner = sums.reshape(height - 2, width)[:, 1:-1].astype(np.float64).reshape(-1)
    total, squares = int(inner.sum()), int(inner @ inner)
    return (squares * inner.size - total * total) / inner.size**2
