"""From what pixel values mean to radiance, and from radiance to a picture."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from modalities.base import Arrays

LUMINANCE = np.array([0.2126, 0.7152, 0.0722], np.float32)  # of linear sRGB


def unit(arrays: Arrays) -> NDArray[np.floating[Any]]:
    """Frames as floats, integers brought to [0, 1]; what is not a number becomes 0."""
    frames = arrays["frames"]
    if frames.dtype.kind == "u":
        return frames.astype(np.float32) / np.float32(np.iinfo(frames.dtype).max)
    return np.nan_to_num(frames, nan=0.0, posinf=0.0, neginf=0.0)


def linear(arrays: Arrays) -> NDArray[np.floating[Any]]:
    """Radiance up to a factor, (t, h, w, 3). Values with a tone curve of their own are read as sRGB."""
    frames = unit(arrays)
    return frames if str(arrays["transfer"]) == "linear" else decode_srgb(frames)


def display(arrays: Arrays) -> NDArray[np.float32]:
    """(t, h, w, 3) in [0, 1], ready to show: pictures as they are, radiance exposed and compressed."""
    frames = unit(arrays).astype(np.float32)
    if str(arrays["transfer"]) != "linear":
        return np.clip(frames, 0, 1)
    return encode_srgb(compress(frames * np.float32(exposure(frames))))


def exposure(radiance: NDArray[Any], *, key: float = 0.4) -> float:
    """Factor that brings the median of what is lit, sparks and black surroundings left out, to `key`."""
    bright = radiance @ LUMINANCE.astype(radiance.dtype)
    lit = bright[bright > 0]
    if lit.size:
        lit = lit[lit > 0.02 * np.percentile(lit, 95)]
    return key / float(np.median(lit)) if lit.size else 1.0


def compress(radiance: NDArray[Any], *, white: float = 4.0) -> NDArray[Any]:
    """Bend [0, white] into [0, 1] by x (1 + x / white^2) / (1 + x); dark values nearly keep theirs.

    Reinhard et al., "Photographic tone reproduction for digital images", SIGGRAPH 2002, eq. 4.
    """
    radiance = np.maximum(radiance, 0)
    return np.asarray(np.minimum(radiance * (1 + radiance / white**2) / (1 + radiance), 1))


def encode_srgb(radiance: NDArray[Any]) -> NDArray[Any]:
    """[0, 1] -> [0, 1], IEC 61966-2-1; clips."""
    light = np.clip(radiance, 0, 1)
    return np.asarray(
        np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055), light.dtype
    )


def decode_srgb(values: NDArray[Any]) -> NDArray[Any]:
    """Inverse of `encode_srgb`."""
    values = np.clip(values, 0, 1)
    return np.asarray(
        np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4), values.dtype
    )
