"""A cloud of any size looked at in bounded memory: a run at a time, or as a part of its points."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Axes = NDArray[
    np.float64
]  # (3, m): x, y and z of finite points, each axis in one piece, which is twice as fast

MOST = 2**19  # points that are looked at together; more are thinned
_RUN = 2**18
_MIX = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9)  # odd, so no bit is lost


def runs(points: NDArray[np.floating]) -> Iterator[Axes]:
    """The finite points of each run of (n, 3), in order."""
    for start in range(0, len(points), _RUN):
        run = np.ascontiguousarray(points[start : start + _RUN].T, np.float64)
        finite = np.isfinite(run)
        yield run if finite.all() else run[:, finite.all(axis=0)]


def thin(points: NDArray[np.floating]) -> Axes:
    """Finite points of (n, 3): all, or above MOST about as many, chosen by a hash of the coordinates.

    So the order does not matter, and points that are equal are taken or left together.
    """
    step = -(-len(points) // MOST)
    parts = [run if step == 1 else run[:, mixed(run) % np.uint64(step) == 0] for run in runs(points)]
    return np.concatenate(parts, axis=1) if len(parts) > 1 else parts[0] if parts else np.empty((3, 0))


def mixed(points: Axes) -> NDArray[np.uint64]:
    """(m,): a hash of the coordinates, the same for equal points."""
    total = np.zeros(points.shape[1], np.uint64)
    for axis, factor in zip(points, _MIX, strict=True):
        total ^= (axis + 0.0).view(np.uint64)  # -0.0 becomes 0.0
        total *= np.uint64(factor)
        total ^= total >> np.uint64(29)
    return total
