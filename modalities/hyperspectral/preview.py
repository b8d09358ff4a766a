"""A colour picture of a cube, and its mean spectrum."""

import json
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modalities.base import Arrays, Files
from modalities.hyperspectral.quality import real, sampled, valid_values
from modalities.hyperspectral.transforms import nearest
from modalities.libraries import load

RGB_NM = (640.0, 550.0, 460.0)  # red, green, blue
FAR_NM = 60.0  # further from a colour than this, a band does not show it
_SIDE = 512


def colour_bands(arrays: Arrays) -> list[int]:
    """Red, green and blue by wavelength; without visible ones the first, middle and last band."""
    count = arrays["cube"].shape[2]
    if "wavelengths" in arrays:
        found = nearest(arrays, RGB_NM)
        if np.abs(arrays["wavelengths"][found] - RGB_NM).max() <= FAR_NM:
            return [int(band) for band in found]
    return [0, count // 2, count - 1]


def preview(arrays: Arrays) -> Files:
    """{"png": colours stretched from the 2nd to the 98th percentile, "json": mean spectrum, physical values}.

    The picture is thinned to at most 512 pixels a side; no data is transparent.
    """
    load("PIL")
    from PIL import Image

    chosen = colour_bands(arrays)
    cube = arrays["cube"]
    step = max(1, -(-max(cube.shape[:2]) // _SIDE))
    view = {**arrays, "cube": cube[::step, ::step][:, :, chosen]}
    valid = np.asarray(valid_values(view).all(axis=2))
    pixels = _stretched(real(view["cube"]), valid)
    alpha = np.where(valid, 255, 0).astype(np.uint8)
    out = BytesIO()
    Image.fromarray(np.dstack([pixels, alpha])).save(out, "PNG")
    return {"png": out.getvalue(), "json": json.dumps(_spectrum(arrays, chosen), sort_keys=True).encode()}


def _stretched(values: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.uint8]:
    out = np.zeros(values.shape, np.uint8)
    for band in range(3):
        held = values[:, :, band][valid]
        if held.size:
            low, high = np.percentile(held, (2, 98))
            grey = (values[:, :, band] - low) / max(float(high - low), 1e-12)
            out[:, :, band] = np.where(valid, grey, 0).clip(0, 1) * 255
    return out


def _spectrum(arrays: Arrays, chosen: list[int]) -> dict[str, Any]:
    small = sampled(arrays)
    valid = valid_values(small)
    count = valid.sum(axis=(0, 1))
    mean = np.where(valid, real(small["cube"]), 0).sum(axis=(0, 1), dtype=np.float64) / np.maximum(count, 1)
    mean = mean * arrays.get("scale", np.array(1.0)) + arrays.get("offset", np.array(0.0))
    values = [round(float(m), 6) if n else None for m, n in zip(mean, count, strict=True)]
    nm = arrays["wavelengths"].tolist() if "wavelengths" in arrays else None
    return {"mean_spectrum": values, "wavelengths_nm": nm, "rgb_bands": chosen}
