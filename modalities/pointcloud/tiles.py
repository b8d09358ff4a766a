"""Square tiles of a cloud in x and y; LAS and LAZ larger than memory are read a run of points at a time."""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modalities.base import Arrays, BadSample, Cut, Files, Meta, Piece, Raw
from modalities.pointcloud.codec import decode, encode, pack
from modalities.pointcloud.guard import guarded
from modalities.pointcloud.readers import las
from modalities.pointcloud.schema import GLOBAL, select

_RUN_POINTS = 50_000  # LASzip's usual chunk: what a tile reads is a multiple of it
_MAX_TILES = 100_000
_CELL_LIMIT = 2**31  # so that two cell numbers fit one int64


@contextmanager
def _reading(raw: Raw, meta: Meta, *, coordinates: bool) -> Iterator[Callable[[int, int], Arrays]]:
    """A function (start, stop) -> fields of those points, or their coordinates only."""
    if meta["format"] in ("las", "laz", "copc"):
        with ExitStack() as stack:
            with guarded(raw.name):
                rows = stack.enter_context(las.opened(raw))

            def read(start: int, stop: int) -> Arrays:
                with guarded(raw.name):
                    return (
                        {"points": rows.read_points(start, stop)} if coordinates else rows.read(start, stop)
                    )

            yield read
    else:
        arrays = decode(pack(raw, meta))
        yield lambda start, stop: select(arrays, np.arange(start, stop))


def _cells(points: NDArray[Any], size: float, reach: float) -> NDArray[np.int64]:
    """Tile numbers (n, 2) of the points moved by `reach` in x and y."""
    cells = np.floor((points[:, :2].astype(np.float64) + reach) / size)
    if len(cells) and np.abs(cells).max() >= _CELL_LIMIT // 2 - 1:
        raise ValueError(
            f"size={size} is too small for coordinates of {np.abs(points).max():.3g}; choose a larger one"
        )
    return cells.astype(np.int64)


def _check(size: float, overlap: float) -> None:
    if not (math.isfinite(size) and size > 0 and 0 <= overlap < size / 2):
        raise ValueError(f"size must be > 0 and overlap in [0, size / 2), got size={size}, overlap={overlap}")


def plan(raw: Raw, meta: Meta, *, size: float, min_points: int = 1, overlap: float = 0.0) -> Sequence[Piece]:
    """Tiles of `size` by `size` (units of the coordinates) on a grid through the origin, so neighbours fit.

    A tile also holds the points up to `overlap` outside it; tiles with fewer than `min_points` inside are
    left out. Points without finite coordinates belong to none. Memory: one run of points and the counts.
    """
    _check(size, overlap)
    inside: dict[tuple[int, int], int] = {}
    runs: dict[tuple[int, int], list[list[int]]] = {}
    totals: dict[tuple[int, int], int] = {}
    with _reading(raw, meta, coordinates=True) as read:
        for start in range(0, meta["num_points"], _RUN_POINTS):
            stop = min(start + _RUN_POINTS, meta["num_points"])
            points = read(start, stop)["points"]
            points = points[np.isfinite(points).all(axis=1)]
            own = _count(_cells(points, size, 0.0))
            for cell, count in own:
                inside[cell] = inside.get(cell, 0) + count
            for cell, count in _count(_reached(points, size, overlap)) if overlap else own:
                totals[cell] = totals.get(cell, 0) + count
                spans = runs.setdefault(cell, [])
                if spans and spans[-1][1] == start:
                    spans[-1][1] = stop
                else:
                    spans.append([start, stop])
            if len(totals) > _MAX_TILES:
                raise ValueError(
                    f"more than {_MAX_TILES:,} tiles of size {size} in {raw.name}; choose a larger size"
                )
    per_point = max(1, raw.size // meta["num_points"])
    return [
        Piece(
            suffix=f"x{x:06d}_y{y:06d}",
            spec={"cell": [x, y], "num_points": totals[x, y], "runs": runs[x, y]},
            num_bytes=512 + totals[x, y] * per_point,
        )
        for x, y in sorted(inside)
        if inside[x, y] >= min_points
    ]


def _count(cells: NDArray[np.int64]) -> list[tuple[tuple[int, int], int]]:
    keys, counts = np.unique(cells[:, 0] * _CELL_LIMIT + cells[:, 1], return_counts=True)
    xs = (keys + _CELL_LIMIT // 2) // _CELL_LIMIT
    ys = keys - xs * _CELL_LIMIT
    return list(zip(zip(xs.tolist(), ys.tolist(), strict=True), counts.tolist(), strict=True))


def _reached(points: NDArray[Any], size: float, overlap: float) -> NDArray[np.int64]:
    """Every tile each point belongs to, once: 1, 2 or 4 rows a point."""
    low, high = _cells(points, size, -overlap), _cells(points, size, overlap)
    out = [low]
    for dx, dy in ((1, 0), (0, 1), (1, 1)):
        there = (high[:, 0] - low[:, 0] >= dx) & (high[:, 1] - low[:, 1] >= dy)
        out.append(low[there] + np.array([dx, dy]))
    return np.concatenate(out)


def extract(
    raw: Raw, meta: Meta, spec: Meta, *, size: float, min_points: int = 1, overlap: float = 0.0
) -> Files:
    """The points of one tile with all their fields, and `tile.json`: its bounds, without the overlap."""
    _check(size, overlap)
    cell = np.array(spec["cell"])
    parts: list[dict[str, NDArray[Any]]] = []
    with _reading(raw, meta, coordinates=False) as read:
        for start, stop in spec["runs"]:
            for at in range(start, stop, las.CHUNK_POINTS):
                arrays = read(at, min(at + las.CHUNK_POINTS, stop))
                finite = np.isfinite(arrays["points"]).all(axis=1)
                points = np.where(finite[:, None], arrays["points"], 0)
                low, high = _cells(points, size, -overlap), _cells(points, size, overlap)
                keep = finite & (low <= cell).all(axis=1) & (high >= cell).all(axis=1)
                parts.append(select(arrays, keep))
    merged = {
        name: value if name in GLOBAL else np.concatenate([part[name] for part in parts])
        for name, value in parts[0].items()
    }
    if len(merged["points"]) != spec["num_points"]:
        came = len(merged["points"])
        raise BadSample(
            "corrupt", f"{raw.name} has {came:,} points in tile {spec['cell']}, plan: {spec['num_points']:,}"
        )
    x, y = spec["cell"]
    z = merged["points"][:, 2]
    about = {
        "bounds": [[x * size, y * size, float(z.min())], [(x + 1) * size, (y + 1) * size, float(z.max())]],
        "size": size,
        "overlap": overlap,
        "num_points": spec["num_points"],
    }
    return {**encode(merged), "tile.json": json.dumps(about).encode()}


TILES = Cut(plan=plan, extract=extract)
