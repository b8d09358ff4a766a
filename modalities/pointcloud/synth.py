"""Scans of simple solids: noise, normals, intensity and a class name, for tests and demos."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from modalities.base import Files
from modalities.pointcloud import laz

CLASSES = ("sphere", "cube", "torus", "cylinder", "cone", "plane")
_Floats = NDArray[np.float64]


def synth(seed: int) -> Files:
    """500 to 1500 points of the solid that `cls` names, turned about z, sized, noisy; PLY or LAZ.

    Class = seed modulo the number of classes; the file format changes after each round of classes, so that it
    tells nothing about the class.
    """
    rng = np.random.default_rng(seed)
    name = CLASSES[seed % len(CLASSES)]
    count = int(rng.integers(500, 1501))
    points, normals = _SOLIDS[name](count, rng)
    angle = rng.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    points = (
        points @ turn.T * rng.uniform(0.7, 1.4) + rng.normal(0, 0.01, points.shape) + rng.uniform(-5, 5, 3)
    )
    normals = normals @ turn.T
    # A scanner above: surfaces that face it return more light.
    intensity = np.clip(0.2 + 0.7 * np.maximum(normals[:, 2], 0) + rng.normal(0, 0.03, count), 0, 1)
    label = name.encode()
    if seed // len(CLASSES) % 2 == 0:
        return {"ply": _ply(points, normals, intensity), "cls": label}
    return {"laz": _laz(points, normals, intensity), "cls": label}


def _ply(points: _Floats, normals: _Floats, intensity: _Floats) -> bytes:
    names = ("x", "y", "z", "nx", "ny", "nz", "intensity")
    rows = np.column_stack([points, normals, intensity]).astype("<f4")
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(rows)}"]
    header += [f"property float {name}" for name in names]
    return "\n".join([*header, "end_header", ""]).encode() + rows.tobytes()


def _laz(points: _Floats, normals: _Floats, intensity: _Floats) -> bytes:
    scale, offset, n = np.full(3, 0.0001), np.zeros(3), len(points)
    data = laz.write(
        {
            "points": np.rint(points / scale).astype(np.int32) * scale + offset,
            "normals": normals.astype(np.float32),
            "intensity": (intensity * 65535).astype(np.uint16),
            "return_number": np.ones(n, np.uint8),
            "number_of_returns": np.ones(n, np.uint8),
            "scale": scale,
            "offset": offset,
            "point_format": np.array(6, np.uint8),
            "global_encoding": np.array(16, np.uint16),
        }
    )
    if data is None:
        raise AssertionError("LAZ holds what this function made")
    return data


def _sphere(n: int, rng: np.random.Generator) -> tuple[_Floats, _Floats]:
    direction = rng.standard_normal((n, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    return direction, direction


def _cube(n: int, rng: np.random.Generator) -> tuple[_Floats, _Floats]:
    points, normals = rng.uniform(-0.8, 0.8, (n, 3)), np.zeros((n, 3))
    axis, side = rng.integers(0, 3, n), rng.choice([-1.0, 1.0], n)
    points[np.arange(n), axis], normals[np.arange(n), axis] = 0.8 * side, side
    return points, normals


def _torus(n: int, rng: np.random.Generator) -> tuple[_Floats, _Floats]:
    around, tube = rng.uniform(0, 2 * np.pi, (2, n))
    normals = np.stack([np.cos(tube) * np.cos(around), np.cos(tube) * np.sin(around), np.sin(tube)], 1)
    ring = np.stack([np.cos(around), np.sin(around), np.zeros(n)], 1)
    return 0.8 * ring + 0.28 * normals, normals


def _cylinder(n: int, rng: np.random.Generator) -> tuple[_Floats, _Floats]:
    angle, height = rng.uniform(0, 2 * np.pi, n), rng.uniform(-1, 1, n)
    normals = np.stack([np.cos(angle), np.sin(angle), np.zeros(n)], 1)
    points = np.stack([0.45 * normals[:, 0], 0.45 * normals[:, 1], height], 1)
    cap = rng.random(n) < 0.18  # the share of both caps in the surface
    points[cap, :2] *= np.sqrt(rng.random((cap.sum(), 1)))
    points[cap, 2] = np.sign(height[cap])
    normals[cap] = np.stack([0 * height[cap], 0 * height[cap], np.sign(height[cap])], 1)
    return points, normals


def _cone(n: int, rng: np.random.Generator) -> tuple[_Floats, _Floats]:
    angle, along = rng.uniform(0, 2 * np.pi, n), np.sqrt(rng.random(n))  # more points where it is wide
    flat = np.stack([np.cos(angle), np.sin(angle)], 1)
    points = np.column_stack([0.8 * along[:, None] * flat, 0.8 - 1.6 * along])
    normals = np.column_stack([1.6 * flat, np.full(n, 0.8)]) / np.hypot(1.6, 0.8)
    return points, normals


def _plane(n: int, rng: np.random.Generator) -> tuple[_Floats, _Floats]:
    points = np.column_stack([rng.uniform(-1, 1, (n, 2)), np.zeros(n)])
    return points, np.tile([0.0, 0.0, 1.0], (n, 1))


_SOLIDS: dict[str, Callable[[int, np.random.Generator], tuple[_Floats, _Floats]]] = {
    "sphere": _sphere,
    "cube": _cube,
    "torus": _torus,
    "cylinder": _cylinder,
    "cone": _cone,
    "plane": _plane,
}
