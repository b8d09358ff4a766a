"""Clouds of any size -> a fixed number of points in the unit ball, with features of a fixed width."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modalities.base import Arrays
from modalities.pointcloud.schema import finite, labels, select, unit_colors, unit_intensity

FEATURES = {"height": 1, "intensity": 1, "rgb": 3, "normals": 3}  # name -> columns
_SEARCHED = 8  # farthest-point sampling looks at this many times the points it returns


def prepare(
    arrays: Arrays,
    *,
    num_points: int = 1024,
    features: Sequence[str] = ("height", "intensity", "rgb"),
    rng: np.random.Generator | None = None,
    scale: tuple[float, float] = (0.8, 1.25),
    jitter: float = 0.01,
    dropout: float = 0.2,
) -> Arrays:
    """Points a network takes.

    points (n, 3) float32: centred on the middle of the drawn points, the farthest at distance 1.
    features (n, f) float32, f = the sum of FEATURES in the order asked for (5 by default), zeros where the
    source has none: height above the lowest point, in the unit of `points`; intensity and rgb in [0, 1]; unit
    normals.
    segmentation (n,) int64: only if the source has classes for its points.

    Without `rng`: farthest-point sampling, always the same. With it: random points, then a turn about z, a
    factor in `scale`, `jitter` (a normal deviate cut at 3), and up to `dropout` of the points replaced by the
    first.
    A cloud with too few points repeats them.
    """
    unknown = sorted(set(features) - set(FEATURES))
    if unknown or num_points < 1:
        raise ValueError(
            f"features must be among {sorted(FEATURES)} and num_points > 0, got {unknown}, {num_points}"
        )
    cloud = finite(arrays)
    index = (
        farthest(cloud["points"], num_points) if rng is None else _draw(len(cloud["points"]), num_points, rng)
    )
    colors, intensity = (
        unit_colors(cloud),
        unit_intensity(cloud),
    )  # of the whole cloud, so that its unit is known
    cloud = select(cloud, index)
    points = cloud["points"].astype(np.float64)
    points -= (points.min(axis=0) + points.max(axis=0)) / 2
    radius = float(np.sqrt((points**2).sum(axis=1).max()))
    points /= radius if radius > 0 else 1.0
    normals = np.nan_to_num(cloud["normals"].astype(np.float64)) if "normals" in cloud else None
    if rng is not None:
        points, normals = _augment(points, normals, rng, scale, jitter)
    columns: dict[str, NDArray[Any] | None] = {
        "height": (points[:, 2] - points[:, 2].min())[:, None],
        "intensity": intensity[index, None] if intensity is not None else None,
        "rgb": colors[index] if colors is not None else None,
        "normals": normals,
    }
    table = np.zeros((num_points, sum(FEATURES[name] for name in features)), np.float32)
    at = 0
    for name in features:
        if (column := columns[name]) is not None:
            table[:, at : at + FEATURES[name]] = column
        at += FEATURES[name]
    out: dict[str, NDArray[Any]] = {"points": points.astype(np.float32), "features": table}
    classes = labels(cloud)
    if classes is not None:
        out["segmentation"] = classes
    if rng is not None and dropout > 0:
        gone = rng.random(num_points) < rng.random() * dropout
        gone[0] = False
        out = {name: np.where(gone.reshape(-1, *[1] * (v.ndim - 1)), v[:1], v) for name, v in out.items()}
    return out


def _draw(total: int, number: int, rng: np.random.Generator) -> NDArray[np.int64]:
    if total >= number:
        return rng.choice(total, number, replace=False)
    return np.concatenate([np.arange(total), rng.integers(0, total, number - total)])


def _augment(
    points: NDArray[Any],
    normals: NDArray[Any] | None,
    rng: np.random.Generator,
    scale: tuple[float, float],
    jitter: float,
) -> tuple[NDArray[Any], NDArray[Any] | None]:
    angle = rng.uniform(0, 2 * np.pi)
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    points = points @ turn.T * rng.uniform(*scale)
    points = points + jitter * np.clip(rng.standard_normal(points.shape), -3, 3)
    return points, None if normals is None else normals @ turn.T


def farthest(points: NDArray[Any], number: int) -> NDArray[np.int64]:
    """Rows of `number` points, each the farthest from those before it; repeated when the cloud has fewer.

    A large cloud is thinned evenly in file order first, to `_SEARCHED` * number points.
    """
    if len(points) <= number:
        return np.arange(number) % len(points)
    rows = np.linspace(0, len(points) - 1, min(len(points), _SEARCHED * number)).round().astype(np.int64)
    cloud = (points[rows] - points[rows].mean(axis=0)).astype(np.float32)
    chosen = np.empty(number, np.int64)
    chosen[0] = np.argmax((cloud**2).sum(axis=1))
    distance = np.full(len(cloud), np.inf, np.float32)
    for i in range(1, number):
        difference = cloud - cloud[chosen[i - 1]]
        np.minimum(distance, np.einsum("nk,nk->n", difference, difference), out=distance)
        chosen[i] = np.argmax(distance)
    return rows[chosen]
