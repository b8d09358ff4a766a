"""Numbers that tell a good scan from a bad one."""

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from modalities.base import Arrays
from modalities.pointcloud import thinning
from modalities.pointcloud.schema import unit_intensity
from modalities.pointcloud.thinning import Axes, mixed, runs, thin

_ASKED = 256  # points whose nearest neighbour is looked up
_SOME = 4096  # points that shape and intensities are taken from
_COMPARED = 2**20  # distances that this may take


def quality(arrays: Arrays) -> Mapping[str, float]:
    """Finite numbers; lengths in units of the coordinates.

    density: points a square unit of ground that has points. spacing: median distance to the nearest other
    point, of 256 points. nan_share: of all points. duplicate_share: of the finite ones. flatness: 1 for a
    plane, 0 for a ball. intensity_*: of intensities in [0, 1], 0 without any. flatness and intensity_* are
    those of some 4096 points; above `thinning.MOST` points duplicate_share is that of a fixed part of them,
    and spacing that of some of the ground.
    """
    return numbers(arrays, thin(arrays["points"]))


def numbers(arrays: Arrays, part: Axes) -> Mapping[str, float]:
    """`quality`; `part` is what `thin` leaves of the points."""
    points = arrays["points"]
    whole = len(points) <= thinning.MOST
    low, high, finite = _bounds((part,) if whole else runs(points))
    out = {"num_points": float(len(points)), "nan_share": 1 - finite / len(points) if len(points) else 0.0}
    out |= {f"extent_{axis}": float(high[i] - low[i]) for i, axis in enumerate("xyz")}
    marks = np.sort(mixed(part))
    out["duplicate_share"] = float((marks[1:] == marks[:-1]).sum() / len(marks)) if len(marks) else 0.0
    ground = _Ground(points, part if whole else None, low, high, finite)
    out |= {"density": ground.density(), "flatness": _flatness(part[:, :: -(-part.shape[1] // _SOME) or 1])}
    out["spacing"] = _spacing(part if finite <= thinning.MOST else ground.part())
    intensity = unit_intensity({k: v[:: -(-len(v) // _SOME)] for k, v in arrays.items() if k == "intensity"})
    out["intensity_mean"] = float(intensity.mean()) if intensity is not None else 0.0
    out["intensity_std"] = float(intensity.std()) if intensity is not None else 0.0
    return out


def _bounds(found: Iterable[Axes]) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """Lowest and highest coordinates, and how many points there are; zeros without any."""
    low, high, finite = np.full(3, np.inf), np.full(3, -np.inf), 0
    for run in found:
        if run.size:
            low, high = np.minimum(low, run.min(axis=1)), np.maximum(high, run.max(axis=1))
            finite += run.shape[1]
    return (low, high, finite) if finite else (np.zeros(3), np.zeros(3), 0)


class _Grid:
    """Square cells over two axes, at most 256 a side, about four points in each where they lie evenly."""

    def __init__(self, low: NDArray[np.float64], high: NDArray[np.float64], count: int) -> None:
        self.low, self.side = low, max(1, min(256, int(np.sqrt(count / 4))))
        self.edge = (high - low) / self.side

    def cells(self, points: NDArray[np.float64]) -> NDArray[np.int32]:
        """The cell of each of (2, m)."""
        u, v = (
            np.minimum((axis - low) * (1 / edge if edge > 0 else 0.0), self.side - 1).astype(np.int32)
            for axis, low, edge in zip(points, self.low, self.edge, strict=True)
        )
        found: NDArray[np.int32] = u * self.side + v
        return found


class _Ground:
    """The points seen from above, on a grid; empty ground does not count."""

    def __init__(
        self, points: NDArray[np.floating], whole: Axes | None, low: NDArray[np.float64],
        high: NDArray[np.float64], finite: int,
    ) -> None:  # fmt: skip
        self.points, self.finite = points, finite
        self.grid = _Grid(low[:2], high[:2], finite)
        self.flat = finite < 2 or not np.all(self.grid.edge > 0)
        self.counts: NDArray[np.int64] = np.zeros(self.grid.side**2, np.int64)
        for run in () if self.flat else runs(points) if whole is None else (whole,):
            self.counts += np.bincount(self.grid.cells(run[:2]), minlength=self.grid.side**2)

    def density(self) -> float:
        if self.flat:
            return 0.0
        return float(self.finite / (np.count_nonzero(self.counts) * self.grid.edge.prod()))

    def part(self) -> Axes:
        """All points of some cells spread over the ground, about thinning.MOST of them."""
        if self.flat:
            return thin(self.points)
        num_cells = self.grid.side**2
        order = np.arange(num_cells) * 40503 % num_cells  # odd, and 2 ** 16 cells: each once, far apart
        taken = np.zeros(num_cells, bool)
        taken[order[np.cumsum(self.counts[order]) <= thinning.MOST]] = True
        found = [run[:, taken[self.grid.cells(run[:2])]] for run in runs(self.points)]
        return np.concatenate(found, axis=1)[:, : 2 * thinning.MOST]


def _spacing(points: Axes) -> float:
    """Median over some of the points; neighbours are sought in the 3 x 3 cells around each."""
    count = points.shape[1]
    if count < 2:
        return 0.0
    low, high = points.min(axis=1), points.max(axis=1)
    wide = np.argsort(high - low)[1:]
    grid = _Grid(low[wide], high[wide], count)
    cells = grid.cells(points[wide])
    order = np.argsort(cells.astype(np.uint16), kind="stable")  # 256 ** 2 cells, and a radix sort
    asked = np.arange(_ASKED) * count // _ASKED if count > _ASKED else np.arange(count)
    starts, sizes = _runs_around(cells[order[asked]], np.bincount(cells, minlength=grid.side**2), grid.side)
    fewer = -(-int(sizes.sum()) // _COMPARED)
    asked, starts, sizes = asked[::fewer], starts[::fewer].ravel(), sizes[::fewer]
    each, sizes = sizes.sum(axis=1), sizes.ravel()
    other = np.arange(sizes.sum()) + np.repeat(starts - (np.cumsum(sizes) - sizes), sizes)
    own = np.repeat(asked, each)
    itself = other == own
    other, own = order[other], order[own]
    distances = np.zeros(len(other))
    for axis in points:
        away = axis.take(other) - axis.take(own)
        distances += away * away
    distances[itself] = np.inf
    nearest = np.minimum.reduceat(distances, np.cumsum(each) - each)
    nearest = nearest[np.isfinite(nearest)]
    return float(np.sqrt(np.median(nearest))) if len(nearest) else float(grid.edge.max())


def _runs_around(
    cells: NDArray[np.int32], counts: NDArray[np.int64], side: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where the points of 3 x 3 cells lie among points sorted by cell: (q, 3) starts and sizes of rows."""
    ends = np.concatenate([[0], np.cumsum(counts)])
    row, column = np.divmod(cells.astype(np.int64), side)
    rows = row[:, None] + np.array([-1, 0, 1])
    inside = (rows >= 0) & (rows < side)
    first = np.clip(rows, 0, side - 1) * side
    starts = ends[first + np.maximum(column - 1, 0)[:, None]]
    sizes = ends[first + np.minimum(column + 1, side - 1)[:, None] + 1] - starts
    return starts, np.where(inside, sizes, 0)


def _flatness(points: Axes) -> float:
    if points.shape[1] < 3:
        return 0.0
    centred = points - points.mean(axis=1, keepdims=True)
    values = np.linalg.eigvalsh(centred @ centred.T / (points.shape[1] - 1))
    # The last digits of BLAS and LAPACK differ between machines.
    return round(float(1 - 3 * max(values[0], 0) / values.sum()), 6) if values.sum() > 0 else 0.0
