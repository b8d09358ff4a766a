"""A cloud of any size looked at in bounded memory: a run at a time, or as a part of its points."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

MOST = 2**19  # points that are looked at together; more are thinned
_RUN = 2**18
_MIX = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9)  # odd, so no bit is lost


def runs(points: NDArray[np.floating]) -> Iterator[NDArray[np.float64]]:
    """The finite points (m, 3) of each run, in order."""
    for start in range(0, len(points), _RUN):
        run = points[start : start + _RUN].astype(np.float64)
        keep = np.isfinite(run).all(axis=1)
        yield run if keep.all() else run[keep]


def thin(points: NDArray[np.floating]) -> NDArray[np.float64]:
    """Finite points (m, 3): all, or of a cloud above MOST about as many, chosen by a hash of the coordinates.

    So the order does not matter, and points that are equal are taken or left together.
    """
    step = -(-len(points) // MOST)
    parts = [run if step == 1 else run[_hash(run) % np.uint64(step) == 0] for run in runs(points)]
    return np.concatenate(parts) if parts else np.empty((0, 3))


def _hash(points: NDArray[np.float64]) -> NDArray[np.uint64]:
    bits = (points + 0.0).view(np.uint64)  # -0.0 becomes 0.0
    total = np.zeros(len(points), np.uint64)
    for i, factor in enumerate(_MIX):
        total ^= bits[:, i]
        total *= np.uint64(factor)
        total ^= total >> np.uint64(29)
    return total
