"""Real spherical harmonics up to order 2: a smooth environment in nine numbers a colour.

Order: Y00; Y1-1 (y), Y10 (z), Y11 (x); Y2-2 (xy), Y2-1 (yz), Y20 (3z2 - 1), Y21 (xz), Y22 (x2 - y2).
Orthonormal on the sphere, without the Condon-Shortley sign, as in Ramamoorthi and Hanrahan, "An efficient
representation for irradiance environment maps", SIGGRAPH 2001.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MIRROR_X = np.array([1, 1, 1, -1, -1, 1, 1, -1, 1.0])  # what x -> -x does to each of the nine
COSINE = np.array([1, 2 / 3, 2 / 3, 2 / 3, 1 / 4, 1 / 4, 1 / 4, 1 / 4, 1 / 4])  # clamped cosine lobe / pi


def basis(directions: Floats) -> Floats:
    """Unit directions (3, n) -> (9, n)."""
    x, y, z = directions
    c1, c2 = np.sqrt(3 / (4 * np.pi)), np.sqrt(15 / (4 * np.pi))
    constant = np.full_like(x, np.sqrt(1 / (4 * np.pi)))
    first = [c1 * y, c1 * z, c1 * x]
    second = [
        c2 * x * y,
        c2 * y * z,
        c2 / np.sqrt(12) * (3 * z * z - 1),
        c2 * x * z,
        c2 / 2 * (x * x - y * y),
    ]
    return np.stack([constant, *first, *second])


def radiance(coefficients: Floats, directions: Floats) -> Floats:
    """Light arriving from unit directions (3, n), coefficients (9, c) -> (c, n). May dip below 0."""
    return np.asarray(coefficients.T @ basis(directions))


def irradiance(coefficients: Floats, normals: Floats) -> Floats:
    """What a white matte surface with normals (3, n) sends back, coefficients (9, c) -> (c, n)."""
    return np.asarray((coefficients * COSINE[:, None]).T @ basis(normals))


def project(light: Callable[[Floats], Floats], *, samples: int = 1024) -> Floats:
    """Coefficients (9, c) of `light`: unit directions (3, n) -> radiance (c, n)."""
    directions = fibonacci(samples)
    return np.asarray(4 * np.pi / samples * basis(directions) @ light(directions).T)


def rotate(coefficients: Floats, rotation: Floats) -> Floats:
    """Coefficients (9, c) of the environment turned by `rotation` (3, 3): new(R d) = old(d). Exact."""
    directions = fibonacci(32)
    return np.asarray(np.linalg.lstsq(basis(rotation @ directions).T, basis(directions).T @ coefficients)[0])


def fibonacci(samples: int) -> Floats:
    """Nearly even directions on the sphere, (3, samples)."""
    index = np.arange(samples) + 0.5
    z = 1 - 2 * index / samples
    radius, turn = np.sqrt(1 - z * z), np.pi * (1 + np.sqrt(5)) * index
    return np.stack([radius * np.cos(turn), radius * np.sin(turn), z])
