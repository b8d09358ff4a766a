"""Normals from shading: Woodham, "Photometric method for determining surface orientation", 1980."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from modalities.base import Arrays
from modalities.lighting.tonemap import linear

Floats = NDArray[np.float64]


def solve(
    frames: NDArray[Any],
    lights: Floats,
    mask: NDArray[np.bool_] | None = None,
    *,
    intensity: Floats | None = None,
    shadow: float = 0.0,
    trim: float = 0.0,
) -> tuple[Floats, Floats]:
    """Least squares of brightness = albedo * (normal . light), a pixel at a time.

    Args:
        frames: (t, h, w, 3) or (t, h, w) linear.
        lights: (t, 3) unit, from the surface to the light.
        mask: (h, w); elsewhere the results are 0.
        intensity: (t, 3); frames are divided by it first.
        shadow: values up to this share of the pixel's median are left out: shadows obey another law.
        trim: share of each pixel's remaining frames to leave out as outliers, those furthest from
            a fit in least absolute deviations: highlights, cast shadows. At least three frames stay.

    Returns:
        normals (h, w, 3) unit, albedo (h, w); zeros for pixels with fewer than three usable frames, or whose
        usable lights lie in a plane.
    """
    if len(frames) != len(lights) or len(lights) < 3:
        raise ValueError(f"want at least 3 frames with a light each, got {len(frames)} and {len(lights)}")
    if intensity is not None:
        frames = frames / (
            intensity[:, None, None] if frames.ndim == 4 else intensity.mean(axis=1)[:, None, None]
        )
    bright = frames.mean(axis=3) if frames.ndim == 4 else frames
    chosen = np.ones(bright.shape[1:], np.bool_) if mask is None else mask
    values = bright[:, chosen].T.astype(np.float64)  # (n, t)
    weight = (values > shadow * np.median(values, axis=1, keepdims=True)).astype(np.float64)
    fitted = _fit(values, lights, weight)
    if trim > 0:
        fitted = _fit(values, lights, _trimmed(values, lights, weight, fitted, trim))
    albedo = np.linalg.norm(fitted, axis=1)
    normals, albedos = np.zeros((*chosen.shape, 3)), np.zeros(chosen.shape)
    normals[chosen] = fitted / np.maximum(albedo, 1e-30)[:, None]
    albedos[chosen] = albedo
    return normals, albedos


def solve_sample(arrays: Arrays, *, shadow: float = 0.0, trim: float = 0.0) -> tuple[Floats, Floats]:
    """`solve` of a decoded sample of an object at rest."""
    mask = arrays.get("mask")
    if mask is not None and mask.ndim == 3:
        raise ValueError(
            "the object moves from frame to frame (mask has a t); photometric stereo wants it at rest"
        )
    return solve(
        linear(arrays), arrays["lights"], mask, intensity=arrays["intensity"], shadow=shadow, trim=trim
    )


def angular_error(normals: NDArray[Any], truth: NDArray[Any], mask: NDArray[np.bool_]) -> Floats:
    """Degrees between unit normals (h, w, 3), for the pixels of the mask: (n,)."""
    a, b = normals[mask].astype(np.float64), truth[mask].astype(np.float64)
    return np.asarray(
        np.rad2deg(2 * np.arctan2(np.linalg.norm(a - b, axis=1), np.linalg.norm(a + b, axis=1)))
    )


def _fit(values: Floats, lights: Floats, weight: Floats) -> Floats:
    """Weighted least squares for each row of `values` (n, t): (n, 3); zeros where it is not determined."""
    system = np.einsum("nt,ti,tj->nij", weight, lights, lights)
    right = np.einsum("nt,nt,ti->ni", weight, values, lights)
    scale = np.maximum(np.trace(system, axis1=1, axis2=2), 1e-30)
    solid = np.linalg.det(system / scale[:, None, None]) > 1e-9
    fitted = np.zeros((len(values), 3))
    fitted[solid] = np.linalg.solve(system[solid], right[solid][..., None])[..., 0]
    return fitted


def _trimmed(values: Floats, lights: Floats, weight: Floats, fitted: Floats, trim: float) -> Floats:
    """Weights without each pixel's worst frames, judged by reweighted least absolute deviations."""
    scale = np.maximum(np.median(values, axis=1, keepdims=True), 1e-30)
    for _ in range(10):
        off = np.abs(values - fitted @ lights.T) / scale
        fitted = _fit(values, lights, weight / np.maximum(off, 1e-3))
    off = np.where(weight > 0, np.abs(values - fitted @ lights.T), np.inf)
    usable = weight.sum(axis=1, keepdims=True)
    keep = np.maximum(np.ceil((1 - trim) * usable), np.minimum(usable, 3))
    rank = off.argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")
    return np.asarray(weight * (rank < keep))
