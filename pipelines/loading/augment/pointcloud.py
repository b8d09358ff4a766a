"""Steps for clouds: arrays with `points` (n, 3), and other fields of a row a point."""

import numpy as np
from numpy.typing import NDArray

from modalities.base import Arrays
from modalities.pointcloud.schema import select
from pipelines.loading.augment.chain import Change

Rng = np.random.Generator


def rotate(arrays: Arrays, rng: Rng, *, axis: str = "z", degrees: float = 180.0) -> Arrays:
    """A turn of -+ `degrees` about an axis through the middle; "all" is any rotation. Normals turn along."""
    if axis not in ("x", "y", "z", "all"):
        raise ValueError(f"axis: want x, y, z or all, got {axis!r}")
    turn = (
        _any_turn(rng)
        if axis == "all"
        else _turn("xyz".index(axis), np.deg2rad(rng.uniform(-degrees, degrees)))
    )
    middle = _middle(arrays)
    points = (np.asarray(arrays["points"], np.float64) - middle) @ turn.T + middle
    out = {**arrays, "points": points.astype(arrays["points"].dtype)}
    if "normals" in arrays:
        out["normals"] = (arrays["normals"] @ turn.T).astype(arrays["normals"].dtype)
    return out


def _middle(arrays: Arrays) -> NDArray[np.float64]:
    points = arrays["points"]
    middle: NDArray[np.float64] = (points.min(axis=0).astype(np.float64) + points.max(axis=0)) / 2
    return middle


def _turn(axis: int, angle: float) -> NDArray[np.float64]:
    turn = np.eye(3)
    one, two = (axis + 1) % 3, (axis + 2) % 3
    turn[one, one] = turn[two, two] = np.cos(angle)
    turn[two, one] = np.sin(angle)
    turn[one, two] = -turn[two, one]
    return turn


def _any_turn(rng: Rng) -> NDArray[np.float64]:
    """Uniform over all rotations: a random unit quaternion (Shoemake, 1992)."""
    w, x, y, z = (q := rng.standard_normal(4)) / np.linalg.norm(q)
    return np.array([
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ])  # fmt: skip


def scale(arrays: Arrays, rng: Rng, *, factor: tuple[float, float] = (0.8, 1.25)) -> Arrays:
    """All three axes by one factor, about the middle."""
    middle = _middle(arrays)
    points = (np.asarray(arrays["points"], np.float64) - middle) * rng.uniform(*factor) + middle
    return {**arrays, "points": points.astype(arrays["points"].dtype)}


def flip(arrays: Arrays, rng: Rng, *, probability: float = 0.5) -> Arrays:
    """The x and the y axis mirrored, each with `probability`; normals along."""
    signs = np.where(rng.random(3) < probability, -1.0, 1.0)
    signs[2] = 1.0
    middle = _middle(arrays)
    points = (np.asarray(arrays["points"], np.float64) - middle) * signs + middle
    out = {**arrays, "points": points.astype(arrays["points"].dtype)}
    if "normals" in arrays:
        out["normals"] = (arrays["normals"] * signs).astype(arrays["normals"].dtype)
    return out


def jitter(arrays: Arrays, rng: Rng, *, sigma: float = 0.005, limit: float = 0.02) -> Arrays:
    """Normal deviates cut at `limit`, as shares of the longest side (Qi et al., arXiv 1612.00593)."""
    points = np.asarray(arrays["points"], np.float64)
    extent = float(np.ptp(points, axis=0).max())
    moved = points + extent * np.clip(sigma * rng.standard_normal(points.shape), -limit, limit)
    return {**arrays, "points": moved.astype(arrays["points"].dtype)}


def dropout(arrays: Arrays, rng: Rng, *, share: float = 0.2) -> Arrays:
    """Up to `share` of the points left out, at least one kept."""
    kept = rng.random(len(arrays["points"])) >= rng.random() * share
    kept[rng.integers(len(kept))] = True
    return select(arrays, kept)


def sample(arrays: Arrays, rng: Rng, *, num_points: int = 1024) -> Arrays:
    """Some of the points, drawn without repetition; all of them where there are no more."""
    count = len(arrays["points"])
    return (
        arrays
        if count <= num_points
        else select(arrays, np.sort(rng.choice(count, num_points, replace=False)))
    )


def crop(arrays: Arrays, rng: Rng, *, share: tuple[float, float] = (0.5, 1.0)) -> Arrays:
    """The `share` of the points that lies nearest to a random one."""
    points = np.asarray(arrays["points"], np.float64)
    distance = ((points - points[rng.integers(len(points))]) ** 2).sum(axis=1)
    count = max(1, round(len(points) * rng.uniform(*share)))
    return (
        arrays
        if count == len(points)
        else select(arrays, np.sort(np.argpartition(distance, count - 1)[:count]))
    )


STEPS: dict[str, Change] = {
    "rotate": rotate,
    "scale": scale,
    "flip": flip,
    "jitter": jitter,
    "dropout": dropout,
    "sample": sample,
    "crop": crop,
}
