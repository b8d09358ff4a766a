"""Where rays meet a solid. Hart, "Sphere tracing", The Visual Computer 1996."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from modalities.lighting.render.brdf import dot
from modalities.lighting.render.shapes import Distance

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
RADIUS = 1.02  # ball around every shape, with a margin


def enter(distance: Distance, origin: Floats, direction: Floats) -> tuple[Floats, Mask]:
    """Depth (n,) of the first hit along rays (3, n) in the solid's own frame, and whether there is one."""
    middle = -dot(origin, direction)
    half2 = RADIUS**2 - dot(origin, origin) + middle**2
    half = np.sqrt(np.maximum(half2, 0))
    near, far = np.maximum(middle - half, 0), middle + half
    return _walk(distance, origin, direction, near, np.where(half2 > 0, far, -1.0))


def leave(distance: Distance, origin: Floats, direction: Floats) -> Floats:
    """Depth (n,) at which rays that start on the surface and go inward come out again."""
    start = np.full(origin.shape[1], 0.02)
    depth, _ = _walk(lambda p: -distance(p), origin, direction, start, np.full_like(start, 2.2))
    return depth


def _walk(
    distance: Distance, origin: Floats, direction: Floats, near: Floats, far: Floats
) -> tuple[Floats, Mask]:
    """Step along by the distance until it is tiny or `far` is passed; rays that are done drop out.

    In single precision, twice as fast and 100 times finer than the tolerance; the last step is in double.
    """
    depth, hit = near.copy(), np.zeros(near.shape, np.bool_)
    active = np.flatnonzero(near < far)
    o, d = (rays[:, active].astype(np.float32) for rays in (origin, direction))
    reach: NDArray[np.floating[Any]] = near[active].astype(np.float32)
    end = far[active].astype(np.float32)
    for _ in range(64):
        if not active.size:
            break
        gap = distance(o + reach * d)
        reach = reach + gap
        close = gap < 2e-4
        depth[active] = reach
        hit[active[close]] = True
        going = ~close & (reach < end)
        if going.sum() < 0.9 * going.size:  # compacting costs as much as a step
            active, o, d = active[going], o[:, going], d[:, going]
            reach, end = reach[going], end[going]
    hit &= depth <= far + 1e-3
    depth[hit] += distance(origin[:, hit] + depth[hit] * direction[:, hit])
    return depth, hit
