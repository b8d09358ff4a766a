"""Small views of a cloud: a picture from above at a slant, and points a browser can turn."""

import json
from io import BytesIO

import numpy as np
from numpy.typing import NDArray

from modalities.base import Arrays, Files
from modalities.libraries import load
from modalities.pointcloud.schema import finite, select, unit_colors

_SIDE = 512  # pixels
_DRAWN = 2_000_000
_LISTED = 20_000
_BACKGROUND = 18
# Low to high: blue, teal, green, yellow; control points of a map that also reads in grey.
_RAMP = (
    np.array([[48, 40, 120], [40, 110, 142], [50, 168, 118], [170, 206, 60], [250, 230, 60]], np.float64)
    / 255
)


def preview(arrays: Arrays) -> Files:
    """`png` 512 x 512, oblique; `json`: "points" n x 3, "colors" n x 3 of 0..255, "num_points" and "center".

    Colours are the source's, or those of height. The json lists at most 20,000 points, relative to "center".
    """
    cloud = _thin(finite(arrays), _DRAWN)
    colors = _colors(cloud)
    few = _thin({"points": cloud["points"], "colors": colors}, _LISTED)
    points = few["points"].astype(np.float64)
    center = (points.min(axis=0) + points.max(axis=0)) / 2
    extent = float(np.ptp(points, axis=0).max())
    digits = int(np.clip(4 - np.floor(np.log10(extent)), 0, 9)) if extent > 0 else 3
    listed = {
        "num_points": len(arrays["points"]),
        "center": center.tolist(),
        "points": (points - center).round(digits).tolist(),
        "colors": (few["colors"] * 255).round().astype(int).tolist(),
    }
    return {
        "png": _render(cloud["points"], colors),
        "json": json.dumps(listed, separators=(",", ":")).encode(),
    }


def _thin(arrays: Arrays, most: int) -> Arrays:
    total = len(arrays["points"])
    return (
        arrays if total <= most else select(arrays, np.linspace(0, total - 1, most).round().astype(np.int64))
    )


def _colors(arrays: Arrays) -> NDArray[np.float32]:
    own = unit_colors(arrays)
    if own is not None and float(np.ptp(own)) > 0:
        return own
    height = arrays["points"][:, 2].astype(np.float64)
    low, high = np.percentile(height, [1, 99])
    share = np.clip((height - low) / (high - low), 0, 1) if high > low else np.full(len(height), 0.5)
    place = share * (len(_RAMP) - 1)
    return np.stack([np.interp(place, np.arange(len(_RAMP)), _RAMP[:, c]) for c in range(3)], 1).astype(
        np.float32
    )


def _render(points: NDArray[np.float64], colors: NDArray[np.float32]) -> bytes:
    """Parallel projection, seen from the south at 45 degrees; the nearest point of a pixel wins."""
    load("PIL")
    from PIL import Image

    low, high = np.percentile(points.astype(np.float64), [0.5, 99.5], axis=0)
    local = points - (low + high) / 2
    slant = np.sqrt(0.5)
    across = local[:, 0]
    up = slant * (local[:, 1] + local[:, 2])
    depth = slant * (local[:, 1] - local[:, 2])
    # Percentiles frame the view: one stray return must not shrink the rest to a dot.
    reach = (
        max(float(np.percentile(np.abs(across), 99.5)), float(np.percentile(np.abs(up), 99.5)), 1e-12) * 1.05
    )
    size = 1 if len(points) > 60_000 else 2 if len(points) > 5_000 else 4  # pixels a point
    column = np.floor((across / reach + 1) / 2 * _SIDE).astype(np.int64)
    row = np.floor((1 - up / reach) / 2 * _SIDE).astype(np.int64)
    order = np.argsort(-depth, kind="stable")  # far to near: what is written last stays
    image = np.full((_SIDE, _SIDE, 3), _BACKGROUND, np.uint8)
    shade = (colors * 255).round().astype(np.uint8)
    for dy, dx in np.ndindex(size, size):
        y, x = row[order] + dy, column[order] + dx
        seen = (y >= 0) & (y < _SIDE) & (x >= 0) & (x < _SIDE)
        image[y[seen], x[seen]] = shade[order][seen]
    Image.fromarray(image).save(out := BytesIO(), "PNG")
    return out.getvalue()
