"""Numbers that tell a useful light from a bad one, and a fingerprint."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from modalities.base import Arrays
from modalities.lighting import tonemap
from modalities.lighting.transforms import resample

_DIGITS = {
    "exposure": 5, "motion": 5, "light_elevation_min_deg": 6, "light_elevation_max_deg": 6,
    "light_spread_deg": 6,
}  # fmt: skip


def quality(arrays: Arrays) -> Mapping[str, float]:
    """Shares are of the object's pixels over all frames, or of all pixels where no object is known.

    exposure: mean luminance as shown, 0..1. saturated: share at the top of an integer type. nonfinite: share
    of values. shadow: share darker than 5 % of the pixel's brightest frame or, of a single frame, of its 95th
    percentile. highlight: share more than 4 times the median of what is lit. motion: mean change from frame
    to frame as shown. object: share of the picture. light_elevation_min_deg, _max_deg: above the picture
    plane. light_spread_deg: widest angle from the mean light.
    """
    frames, lights = arrays["frames"], arrays["lights"].astype(np.float64)
    shown = tonemap.display(arrays) @ tonemap.LUMINANCE
    bright = tonemap.linear(arrays) @ tonemap.LUMINANCE
    mask = np.ones(bright.shape, np.bool_)
    if "mask" in arrays:
        mask &= arrays["mask"]
    share = float(mask.mean())
    if not mask.any():
        mask[:] = True
    lit = bright[mask]
    whole = frames.dtype.kind == "u"
    top = np.iinfo(frames.dtype).max if whole else 0
    limit = bright.max(axis=0) if len(bright) > 1 else np.percentile(lit, 95)
    middle = np.median(lit[lit > 0.02 * lit.max()]) if lit.max() > 0 else 0.0
    elevation = np.rad2deg(np.arcsin(np.clip(lights[:, 2], -1, 1)))
    mean = lights.mean(axis=0)
    mean = mean / max(float(np.linalg.norm(mean)), 1e-12)
    numbers = {
        "num_frames": float(len(frames)),
        "exposure": float(shown[mask].mean()),
        "saturated": float((frames == top).any(axis=3)[mask].mean()) if whole else 0.0,
        "nonfinite": 0.0 if whole else float(1 - np.isfinite(frames).mean()),
        "shadow": float((bright < 0.05 * limit)[mask].mean()),
        "highlight": float((lit > 4 * middle).mean()),
        "motion": float(np.abs(np.diff(shown, axis=0)).mean()) if len(shown) > 1 else 0.0,
        "object": share,
        "light_elevation_min_deg": float(elevation.min()),
        "light_elevation_max_deg": float(elevation.max()),
        "light_spread_deg": float(np.rad2deg(np.arccos(np.clip(lights @ mean, -1, 1))).max()),
    }
    # The last digits of powers, arcs and BLAS differ between machines; shares are counts.
    return numbers | {name: round(numbers[name], digits) for name, digits in _DIGITS.items()}


def fingerprint(arrays: Arrays) -> int:
    """64 bits: 48 of the mean picture's left-right slopes on an 8 x 6 grid, 16 of the first and last light.

    A light's x and y are four bits each that fill up with the value, so that near directions differ in few
    bits; the same object under another light is no duplicate.
    """
    shown = (tonemap.display(arrays) @ tonemap.LUMINANCE).mean(axis=0)
    grid = resample(shown[..., None], 6, 9)[..., 0]
    slopes = (grid[:, 1:] - grid[:, :-1] > 1 / 128).ravel()
    levels = np.array([-0.6, -0.2, 0.2, 0.6])
    lights = (arrays["lights"][[0, -1], :2, None] > levels).ravel()
    return _number(np.concatenate([slopes, lights]))


def _number(bits: NDArray[np.bool_]) -> int:
    return int.from_bytes(np.packbits(bits).tobytes(), "big")
