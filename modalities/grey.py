"""Counts over a grey picture (h, w) uint8, still or moving: whole numbers up to the last division."""

from math import log2
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def histogram(grey: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(256,): how many pixels have each level."""
    if grey.size < 2**15:
        return np.bincount(grey.reshape(-1), minlength=256)
    return np.array(Image.fromarray(np.ascontiguousarray(grey)).histogram())


_PARTS = 2.0**20  # of a bit of entropy; the last digits of logarithms, and of BLAS, differ between machines


def entropy(counts: NDArray[Any]) -> float:
    """Of a histogram (n,) of fewer than 2**27, bits, to two millionths: 0 where all is one level."""
    shown = counts[counts > 0].astype(np.float64)
    total = float(shown.sum())
    mean = float(shown @ np.rint(np.log2(shown) * _PARTS)) / total  # whole numbers below 2**53, in any order
    return max(0.0, round(log2(total) * _PARTS) - mean) / _PARTS


def laplacian_variance(grey: NDArray[np.uint8], every: int = 1) -> float:
    """Of 4 neighbours, at the inner pixels of every so many rows; 0 below 3 x 3."""
    if min(grey.shape) < 3:
        return 0.0
    rows = grey[1:-1:every].astype(np.int16)
    sums = np.add(grey[:-2:every, 1:-1], grey[2::every, 1:-1], dtype=np.int16)
    sums += rows[:, :-2]
    sums += rows[:, 2:]
    sums -= rows[:, 1:-1] << 2
    inner = sums.reshape(-1).astype(np.float64)  # every sum below 2**53 is exact in any order
    total, squares = int(np.add.reduce(inner)), int(inner @ inner)
    return (squares * inner.size - total * total) / inner.size**2
