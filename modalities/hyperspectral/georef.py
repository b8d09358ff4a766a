"""Where a raster lies: ENVI's `map info` and CF coordinates -> crs and affine."""

from collections.abc import Sequence

import numpy as np

from modalities.hyperspectral.spectral import numbers


def from_map_info(text: str) -> tuple[str | None, list[float] | None]:
    """`UTM, 1, 1, easting, northing, dx, dy, zone, North, WGS-84, ..., rotation=deg` -> (crs, affine).

    The first pair is the pixel, counted from one at the upper-left corner, that the second pair locates.
    """
    parts = [part.strip() for part in text.strip("{} \n").split(",")]
    try:
        column, row, x, y, dx, dy = (float(part) for part in parts[1:7])
    except ValueError:
        return None, None
    rotation = next((numbers(part)[:1] for part in parts[7:] if part.lower().startswith("rotation")), [])
    angle = np.deg2rad(rotation[0]) if rotation else 0.0
    a, b, d, e = dx * np.cos(angle), dx * np.sin(angle), dy * np.sin(angle), -dy * np.cos(angle)  # as GDAL
    affine = [a, b, x - (column - 1) * a - (row - 1) * b, d, e, y - (column - 1) * d - (row - 1) * e]
    if not np.isfinite(affine).all():
        return None, None
    return _code(parts), [float(value) for value in affine]


def _code(parts: Sequence[str]) -> str | None:
    """The EPSG code of the two systems `map info` names without doubt, both on WGS-84."""
    lower = [part.lower().replace(" ", "").replace("-", "") for part in parts]
    if "wgs84" not in lower:
        return None
    if lower[0].startswith("geographic"):
        return "EPSG:4326"
    if lower[0] == "utm" and len(parts) > 8 and parts[7].isdigit() and 1 <= int(parts[7]) <= 60:
        return f"EPSG:{(32700 if lower[8].startswith('s') else 32600) + int(parts[7])}"
    return None


def from_centres(x: Sequence[float], y: Sequence[float]) -> list[float] | None:
    """Affine of a regular grid given the coordinates of its pixel centres; None if it is not regular."""
    steps = []
    for axis in (np.asarray(x, float), np.asarray(y, float)):
        if len(axis) < 2 or not np.isfinite(axis).all():
            return None
        step = (axis[-1] - axis[0]) / (len(axis) - 1)
        if step == 0 or np.abs(np.diff(axis) - step).max() > 1e-3 * abs(step):
            return None
        steps.append(float(step))
    dx, dy = steps
    return [dx, 0.0, float(x[0]) - dx / 2, 0.0, dy, float(y[0]) - dy / 2]
