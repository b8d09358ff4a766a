"""Numbers that tell a good scan from a bad one."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from modalities.base import Arrays
from modalities.pointcloud.schema import unit_intensity

_SAMPLE = 4096  # points whose neighbours are looked up


def quality(arrays: Arrays) -> Mapping[str, float]:
    """Finite numbers; lengths in units of the coordinates.

    density: points a square unit of ground that has points. spacing: median distance to the nearest other
    point. nan_share: of all points. duplicate_share: of the finite ones. flatness: 1 for a plane, 0 for a
    ball. intensity_*: of intensities in [0, 1], 0 without any.
    """
    points = arrays["points"].astype(np.float64)
    finite = np.isfinite(points).all(axis=1)
    good = points[finite]
    out = {"num_points": float(len(points)), "nan_share": 1 - float(finite.mean()) if len(points) else 0.0}
    extent = np.ptp(good, axis=0) if len(good) else np.zeros(3)
    out |= {f"extent_{axis}": float(extent[i]) for i, axis in enumerate("xyz")}
    ordered = good[np.lexsort(good.T)]
    repeated = (ordered[1:] == ordered[:-1]).all(axis=1).sum()
    out["duplicate_share"] = float(repeated / len(good)) if len(good) else 0.0
    out |= {"density": _density(good), "spacing": _spacing(good), "flatness": _flatness(good)}
    intensity = unit_intensity(arrays)
    out["intensity_mean"] = float(intensity.mean()) if intensity is not None else 0.0
    out["intensity_std"] = float(intensity.std()) if intensity is not None else 0.0
    return out


def _density(points: NDArray[np.float64]) -> float:
    """Points an occupied square unit, on a ground grid of at most 256 cells a side."""
    if len(points) < 2:
        return 0.0
    low, extent = points[:, :2].min(axis=0), np.ptp(points[:, :2], axis=0)
    # About four points a cell where they lie evenly, so that empty ground does not count.
    side = max(1, min(256, int(np.sqrt(len(points) / 4))))
    edge = extent / side
    if not np.all(edge > 0):
        return 0.0
    cells = np.minimum(((points[:, :2] - low) / edge).astype(np.int64), side - 1)
    occupied = len(np.unique(cells[:, 0] * side + cells[:, 1]))
    return float(len(points) / (occupied * edge.prod()))


def _spacing(points: NDArray[np.float64]) -> float:
    if len(points) < 2:
        return 0.0
    from scipy.spatial import cKDTree  # type: ignore[import-untyped, unused-ignore]

    step = max(1, len(points) // _SAMPLE)
    distances, _ = cKDTree(points).query(points[::step], k=2)
    return float(np.median(distances[:, 1]))


def _flatness(points: NDArray[np.float64]) -> float:
    if len(points) < 3:
        return 0.0
    values = np.linalg.eigvalsh(np.cov((points - points.mean(axis=0)).T))
    return float(1 - 3 * max(values[0], 0) / values.sum()) if values.sum() > 0 else 0.0
