"""Solids as signed distances, each inside the unit ball: points (3, n) -> a bound on the distance (n,).

A value never exceeds the true distance to the surface, so a ray may step that far. For a convex body with
gauge F (F(p) = 1 on the surface, homogeneous) and inner radius r, (F - 1) r is such a bound.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]  # single while marching, double elsewhere
Distance = Callable[[Floats], Floats]


def sphere(rng: np.random.Generator) -> Distance:
    radius = rng.uniform(0.8, 1.0)
    return lambda p: np.asarray(_length(p) - radius)


def ellipsoid(rng: np.random.Generator) -> Distance:
    axes = np.append(rng.uniform(0.55, 0.9, 2), 1.0)[:, None]
    inner = float(axes.min())
    return lambda p: np.asarray((_length(p / axes.astype(p.dtype)) - 1) * inner)


def superquadric(rng: np.random.Generator) -> Distance:
    """Barr, "Superquadrics and angle-preserving transformations", 1981; convex: exponents of at least 2."""
    axes = rng.uniform(0.55, 0.68, (3, 1))
    inner = float(axes.min())
    around, along = rng.uniform(2.5, 5, 2).tolist()

    def distance(p: Floats) -> Floats:
        x, y, z = np.abs(p) / axes.astype(p.dtype) + 1e-12
        gauge = ((x**around + z**around) ** (along / around) + y**along) ** (1 / along)
        return np.asarray((gauge - 1) * inner)

    return distance


def torus(rng: np.random.Generator) -> Distance:
    tube = rng.uniform(0.22, 0.36)
    ring = 1 - tube

    def distance(p: Floats) -> Floats:
        return np.asarray(np.hypot(np.hypot(p[0], p[2]) - ring, p[1]) - tube)

    return distance


def box(rng: np.random.Generator) -> Distance:
    """With rounded edges."""
    rounding = rng.uniform(0.06, 0.16)
    half = rng.uniform(0.48, 0.6, (3, 1)) - rounding

    def distance(p: Floats) -> Floats:
        outside = np.abs(p) - half.astype(p.dtype)
        return np.asarray(_length(np.maximum(outside, 0)) + np.minimum(outside.max(axis=0), 0) - rounding)

    return distance


def capsule(rng: np.random.Generator) -> Distance:
    radius = rng.uniform(0.38, 0.52)
    reach = 0.95 - radius

    def distance(p: Floats) -> Floats:
        along = np.clip(p[0], -reach, reach)
        return np.asarray(np.sqrt((p[0] - along) ** 2 + p[1] ** 2 + p[2] ** 2) - radius)

    return distance


def blob(rng: np.random.Generator) -> Distance:
    """Four balls that melt together."""
    radii = rng.uniform(0.34, 0.48, 4)
    away = rng.normal(size=(4, 3, 1))
    centres = away / np.linalg.norm(away, axis=1, keepdims=True) * (0.8 - radii)[:, None, None]
    melt = 0.12
    balls = list(zip(centres, radii.tolist(), strict=True))

    def distance(p: Floats) -> Floats:
        pull = sum(np.exp((r - _length(p - c.astype(p.dtype))) / melt) for c, r in balls)
        return np.asarray(-melt * np.log(np.maximum(pull, 1e-37)))

    return distance


def ripple(rng: np.random.Generator) -> Distance:
    """A ball with waves on it."""
    height, pace = rng.uniform(0.04, 0.08), rng.uniform(4.5, 6.5)
    phase = rng.uniform(0, 2 * np.pi, (3, 1))
    safe = 1 / (1 + height * pace)  # the slope of a product of three sines is at most 1

    def distance(p: Floats) -> Floats:
        x, y, z = np.sin(pace * p + phase.astype(p.dtype))
        return np.asarray((_length(p) - 0.86 - height * x * y * z) * safe)

    return distance


def _length(p: Floats) -> Floats:
    return np.asarray(np.sqrt(p[0] * p[0] + p[1] * p[1] + p[2] * p[2]))


SHAPES: dict[str, Callable[[np.random.Generator], Distance]] = {
    "sphere": sphere,
    "ellipsoid": ellipsoid,
    "superquadric": superquadric,
    "torus": torus,
    "box": box,
    "capsule": capsule,
    "blob": blob,
    "ripple": ripple,
}


def build(shape: str, seed: int) -> Distance:
    """The shape named, with its proportions drawn from `seed`."""
    if shape not in SHAPES:
        raise LookupError(f"no shape {shape!r}; there are {sorted(SHAPES)}")
    return SHAPES[shape](np.random.default_rng([seed, 0x5A]))


def normals(distance: Distance, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unit outward normals (3, n) at points on the surface, by central differences: they mirror exactly."""
    step = 1e-4 * np.eye(3)[:, :, None]
    slope = np.stack([distance(points + h) - distance(points - h) for h in step])
    return np.asarray(slope / np.maximum(_length(slope), 1e-30), np.float64)
