"""Numbers that tell a good scan from a bad one."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from modalities.base import Arrays
from modalities.pointcloud import thinning
from modalities.pointcloud.schema import unit_intensity
from modalities.pointcloud.thinning import runs, thin

_SAMPLE = 4096  # points whose neighbours are looked up


def quality(arrays: Arrays) -> Mapping[str, float]:
    """Finite numbers; lengths in units of the coordinates.

    density: points a square unit of ground that has points. spacing: median distance to the nearest other
    point. nan_share: of all points. duplicate_share: of the finite ones. flatness: 1 for a plane, 0 for a
    ball. intensity_*: of intensities in [0, 1], 0 without any. Above `thinning.MOST` points duplicate_share,
    flatness and intensity_* are those of a fixed part of the points, and spacing that of some of the ground.
    """
    points = arrays["points"]
    low, high, finite = _bounds(points)
    out = {"num_points": float(len(points)), "nan_share": 1 - finite / len(points) if len(points) else 0.0}
    out |= {f"extent_{axis}": float(high[i] - low[i]) for i, axis in enumerate("xyz")}
    part = thin(points)
    ordered = part[np.lexsort(part.T)]
    repeated = (ordered[1:] == ordered[:-1]).all(axis=1).sum()
    out["duplicate_share"] = float(repeated / len(part)) if len(part) else 0.0
    ground = _Ground(points, low, high, finite)
    out |= {"density": ground.density(), "flatness": _flatness(part)}
    out["spacing"] = _spacing(part if finite <= thinning.MOST else ground.part())
    intensity = unit_intensity(
        {k: v[:: -(-len(v) // thinning.MOST)] for k, v in arrays.items() if k == "intensity"}
    )
    out["intensity_mean"] = float(intensity.mean()) if intensity is not None else 0.0
    out["intensity_std"] = float(intensity.std()) if intensity is not None else 0.0
    return out


def _bounds(points: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """Lowest and highest finite coordinates, and how many points have such; zeros without any."""
    low, high, finite = np.full(3, np.inf), np.full(3, -np.inf), 0
    for run in runs(points):
        if len(run):
            low, high = np.minimum(low, run.min(axis=0)), np.maximum(high, run.max(axis=0))
            finite += len(run)
    return (low, high, finite) if finite else (np.zeros(3), np.zeros(3), 0)


class _Ground:
    """The points seen from above, on a grid of at most 256 cells a side."""

    def __init__(
        self, points: NDArray[np.floating], low: NDArray[np.float64], high: NDArray[np.float64], finite: int
    ) -> None:
        self.points, self.low, self.finite = points, low[:2], finite
        # About four points a cell where they lie evenly, so that empty ground does not count.
        self.side = max(1, min(256, int(np.sqrt(finite / 4))))
        self.edge = (high - low)[:2] / self.side
        self.flat = finite < 2 or not np.all(self.edge > 0)
        self.counts: NDArray[np.int64] = np.zeros(self.side**2, np.int64)
        for run in () if self.flat else runs(points):
            self.counts += np.bincount(self._cells(run), minlength=self.side**2)

    def _cells(self, points: NDArray[np.float64]) -> NDArray[np.int64]:
        cells = np.minimum(((points[:, :2] - self.low) / self.edge).astype(np.int64), self.side - 1)
        return cells[:, 0] * self.side + cells[:, 1]

    def density(self) -> float:
        if self.flat:
            return 0.0
        return float(self.finite / (np.count_nonzero(self.counts) * self.edge.prod()))

    def part(self) -> NDArray[np.float64]:
        """All points (m, 3) of some cells spread over the ground, about thinning.MOST of them."""
        if self.flat:
            return thin(self.points)
        order = np.arange(self.side**2) * 40503 % self.side**2  # odd, and 2 ** 16 cells: each once, far apart
        taken = np.zeros(self.side**2, bool)
        taken[order[np.cumsum(self.counts[order]) <= thinning.MOST]] = True
        found = [run[taken[self._cells(run)]] for run in runs(self.points)]
        return np.concatenate(found)[: 2 * thinning.MOST]


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
