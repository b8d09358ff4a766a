"""Geometry on decoded clouds: every option explicit, every field kept in step with the points."""

from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from modalities.base import Arrays
from modalities.libraries import load
from modalities.pointcloud.schema import GLOBAL, finite, select


def _open3d() -> ModuleType:
    load("open3d")
    import open3d

    return open3d  # type: ignore[no-any-return, unused-ignore]


def _cloud(arrays: Arrays) -> Any:
    o3d = _open3d()
    points = arrays["points"].astype(np.float64)
    # open3d searches in float64, but covariances of map coordinates (1e6) still lose what a metre holds.
    return o3d.geometry.PointCloud(o3d.utility.Vector3dVector(points - points.mean(axis=0)))


def voxel(arrays: Arrays, *, size: float, keep: Literal["first", "mean"] = "first") -> Arrays:
    """One point a cube of edge `size` on a grid through the origin, in the order of first appearance.

    "first" keeps the first point of a cube as it is, with all its fields. "mean" averages points, colours,
    normals (unit length again) and other floats of the cube; whole numbers such as classes are the first's.
    """
    if not size > 0:
        raise ValueError(f"size must be > 0, got {size}")
    arrays = finite(arrays)
    _, first, inverse = np.unique(
        _cells(arrays["points"], size), axis=0, return_index=True, return_inverse=True
    )
    order = np.argsort(first)
    out = select(arrays, first[order])
    if keep == "mean":
        counts = np.bincount(inverse.reshape(-1), minlength=len(first))[order]
        for name, values in arrays.items():
            if name not in GLOBAL and (values.dtype.kind == "f" or name == "colors"):
                out[name] = _means(name, values, inverse.reshape(-1), len(first))[order]
        out["points_per_voxel"] = counts
    elif keep != "first":
        raise ValueError(f'keep must be "first" or "mean", got {keep!r}')
    return out


def _cells(points: NDArray[Any], size: float) -> NDArray[Any]:
    """Cube of each point: one number (n,) while the cubes can be counted, which sorts faster, else (n, 3)."""
    cells = np.floor(points.astype(np.float64) / size)
    cells -= cells.min(axis=0)
    sides = cells.max(axis=0) + 1
    if sides.prod() >= 2**53:
        return cells
    return np.asarray((cells[:, 0] * sides[1] + cells[:, 1]) * sides[2] + cells[:, 2])


def _means(name: str, values: NDArray[Any], group: NDArray[np.int64], number: int) -> NDArray[Any]:
    flat = values.reshape(len(values), -1)
    counts = np.bincount(group, minlength=number)
    mean = np.stack([np.bincount(group, flat[:, i], number) / counts for i in range(flat.shape[1])], axis=1)
    if name == "normals":
        length = np.linalg.norm(mean, axis=1, keepdims=True)
        mean = np.divide(mean, length, out=mean, where=length > 0)
    if values.dtype.kind != "f":
        mean = np.rint(mean)
    return mean.astype(values.dtype).reshape(number, *values.shape[1:])


def outliers(arrays: Arrays, *, neighbors: int = 16, std_ratio: float = 2.0) -> Arrays:
    """Without points whose mean distance to `neighbors` is over `std_ratio` deviations above the average."""
    arrays = finite(arrays)
    if len(arrays["points"]) <= neighbors:
        return arrays
    _, kept = _cloud(arrays).remove_statistical_outlier(nb_neighbors=neighbors, std_ratio=std_ratio)
    return select(arrays, np.sort(np.asarray(kept, np.int64)))


def normals(arrays: Arrays, *, neighbors: int = 16, toward: Sequence[float] | None = None) -> Arrays:
    """Adds `normals` (n, 3) float32, unit: of the plane through the neighbours.

    They point up (+z), or to the position `toward`, as of the scanner.
    """
    arrays = finite(arrays)
    if len(arrays["points"]) < 3:
        raise ValueError(f"normals need at least 3 points, got {len(arrays['points'])}")
    o3d = _open3d()
    cloud = _cloud(arrays)
    cloud.estimate_normals(o3d.geometry.KDTreeSearchParamKNN(neighbors))
    if toward is None:
        cloud.orient_normals_to_align_with_direction((0.0, 0.0, 1.0))
    else:
        position = np.asarray(toward, np.float64) - arrays["points"].astype(np.float64).mean(axis=0)
        cloud.orient_normals_towards_camera_location(position)
    return {**arrays, "normals": np.asarray(cloud.normals, np.float32)}


def crop(arrays: Arrays, *, low: Sequence[float], high: Sequence[float]) -> Arrays:
    """Points with low <= coordinate < high in every axis; two axes (x, y) or three. May be none."""
    if len(low) != len(high) or len(low) not in (2, 3):
        raise ValueError(f"low and high must have 2 or 3 coordinates each, got {list(low)} and {list(high)}")
    points = arrays["points"][:, : len(low)]
    inside = ((points >= np.array(low)) & (points < np.array(high))).all(axis=1)
    return select(arrays, np.asarray(inside))


def subsample(arrays: Arrays, *, num_points: int, seed: int = 0) -> Arrays:
    """At most `num_points`, drawn without replacement, in their order; the same for the same seed."""
    total = len(arrays["points"])
    if num_points < 1:
        raise ValueError(f"num_points must be at least 1, got {num_points}")
    if total <= num_points:
        return dict(arrays)
    return select(arrays, np.sort(np.random.default_rng(seed).choice(total, num_points, replace=False)))


TRANSFORMS: Mapping[str, Callable[..., Arrays]] = {
    "voxel": voxel,
    "outliers": outliers,
    "normals": normals,
    "crop": crop,
    "subsample": subsample,
}
