"""Changes a pipeline may ask for by name; lights and normals follow the picture."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modalities.base import Arrays
from modalities.lighting import tonemap
from modalities.lighting.readers.document import canonical
from modalities.lighting.render.harmonics import MIRROR_X


def flip(arrays: Arrays) -> Arrays:
    """Mirror left and right: pixels, and the x of lights, normals and environment. Twice is the original.

    Camera and scene describe the world before the mirror; `camera` then says "mirrored": true.
    """
    out = dict(arrays)
    out["frames"] = np.ascontiguousarray(arrays["frames"][:, :, ::-1])
    out["lights"] = _mirror(arrays["lights"])
    if "normals" in arrays:
        out["normals"] = _mirror(np.ascontiguousarray(arrays["normals"][..., ::-1, :]))
    if "mask" in arrays:
        out["mask"] = np.ascontiguousarray(arrays["mask"][..., ::-1])
    if "environment" in arrays:
        out["environment"] = arrays["environment"] * MIRROR_X[:, None] + 0.0
    if "camera" in arrays:
        camera = json.loads(str(arrays["camera"]))
        if not camera.pop("mirrored", False):
            camera["mirrored"] = True
        out["camera"] = np.array(canonical(camera))
    return out


def resize(arrays: Arrays, *, height: int, width: int) -> Arrays:
    """Frames, normals and mask at another size, averaged over the area that a pixel covers."""
    if height < 1 or width < 1:
        raise ValueError(f"height and width must be at least 1, got {height} and {width}")
    out, frames = dict(arrays), arrays["frames"]
    scaled = resample(frames.astype(np.float64), height, width)
    if frames.dtype.kind == "u":
        scaled = np.clip(np.rint(scaled), 0, np.iinfo(frames.dtype).max)
    out["frames"] = scaled.astype(frames.dtype)
    if "mask" in arrays:
        out["mask"] = resample(arrays["mask"][..., None].astype(np.float64), height, width)[..., 0] >= 0.5
    if "normals" in arrays:
        normals = resample(np.nan_to_num(arrays["normals"].astype(np.float64)), height, width)
        length = np.linalg.norm(normals, axis=-1, keepdims=True)
        inside = length > 0.25  # less is mostly background
        out["normals"] = np.where(inside, normals / np.maximum(length, 1e-12), 0).astype(
            arrays["normals"].dtype
        )
    return out


def tonemap_frames(arrays: Arrays, *, curve: str = "clip") -> Arrays:
    """Frames as uint8 pictures: "clip" exposes and cuts off, so values still tell radiance; "soft" bends."""
    if str(arrays["transfer"]) != "linear":
        shown = tonemap.unit(arrays)
        transfer = str(arrays["transfer"])
    elif curve == "clip":
        radiance = tonemap.unit(arrays)
        gain = tonemap.exposure(radiance, key=0.25)
        shown, transfer = tonemap.encode_srgb(radiance * gain), "srgb"
    elif curve == "soft":
        shown, transfer = tonemap.display(arrays), "display"
    else:
        raise ValueError(f"curve must be 'clip' or 'soft', got {curve!r}")
    pictures = np.rint(np.clip(shown, 0, 1) * 255).astype(np.uint8)
    return {**arrays, "frames": pictures, "transfer": np.array(transfer)}


def resample(images: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    """(..., h, w, c) floats -> (..., height, width, c): a tent as wide as the coarser of the two grids."""
    down = _blended(images, height).swapaxes(-3, -2)
    return np.ascontiguousarray(_blended(down, width).swapaxes(-3, -2))


def _blended(images: NDArray[Any], after: int) -> NDArray[Any]:
    """(..., n, m, c) -> (..., after, m, c). Term by term: BLAS adds in another order on another processor."""
    before = images.shape[-3]
    weights = _tent(before, after).astype(images.dtype)
    first = np.argmax(weights > 0, axis=1)
    total = np.zeros((*images.shape[:-3], after, *images.shape[-2:]), images.dtype)
    for tap in range(int(np.count_nonzero(weights, axis=1).max())):
        at = np.minimum(first + tap, before - 1)
        share = np.where(first + tap < before, weights[np.arange(after), at], 0).astype(images.dtype)
        total += share[:, None, None] * images[..., at, :, :]
    return total


def _tent(before: int, after: int) -> NDArray[np.float64]:
    """Weights (after, before), rows of sum 1, symmetric under a flip."""
    ratio = before / after
    centres = (np.arange(after) + 0.5) * ratio - 0.5
    weights = np.maximum(1 - np.abs(np.arange(before) - centres[:, None]) / max(ratio, 1.0), 0)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def _mirror(vectors: NDArray[Any]) -> NDArray[Any]:
    """Of (..., 3) the x turned round; + 0 keeps a zero from becoming a minus zero, which has other bytes."""
    return np.asarray(vectors * np.array([-1, 1, 1], vectors.dtype) + np.zeros((), vectors.dtype))


TRANSFORMS: dict[str, Callable[..., Arrays]] = {"flip": flip, "resize": resize, "tonemap": tonemap_frames}
