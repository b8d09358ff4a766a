"""A sample as a model takes it: a clip of fixed size and the light of each of its frames."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from modalities.base import Arrays
from modalities.lighting import tonemap, transforms
from modalities.lighting.cuts import select


def prepare(
    arrays: Arrays,
    *,
    frames: int = 4,
    size: int = 48,
    normals: bool = False,
    rng: np.random.Generator | None = None,
) -> Arrays:
    """Evenly spaced frames, the middle square, tone-mapped; short samples repeat frames.

    `rng` adds what leaves the light true: other frames in order, a mirror image (light and normals mirrored
    along), a little exposure, gamma and colour.

    Returns:
        video (3, t, size, size) float32 in [0, 1]; light (t, 3) float32, unit; mask (t, size, size) bool, all
        true where none is known; with `normals` (3, t, size, size) float32, 0 where there is no surface.
    """
    if frames < 1 or size < 1:
        raise ValueError(f"frames and size must be at least 1, got {frames} and {size}")
    if normals and "normals" not in arrays:
        raise ValueError(f"normals were asked for and the sample has none, only {sorted(arrays)}")
    picked = select(arrays, _pick(len(arrays["frames"]), frames, rng))
    shown = {**picked, "frames": _square(tonemap.display(picked)), "transfer": np.array("display")}
    for key, channels in (("normals", 1), ("mask", 0)):
        if key in shown:
            shown[key] = _square(shown[key], channels=channels)
    shown = dict(transforms.resize(shown, height=size, width=size))
    if rng is not None and rng.random() < 0.5:
        shown = dict(transforms.flip(shown))
    video = np.clip(shown["frames"], 0, 1)
    if rng is not None:
        video = np.clip(video * rng.uniform(0.85, 1.15, 3).astype(np.float32), 0, 1)
        video = video ** np.float32(rng.uniform(0.85, 1.18))
    light = shown["lights"] / np.linalg.norm(shown["lights"], axis=1, keepdims=True)
    out: dict[str, NDArray[Any]] = {
        "video": np.ascontiguousarray(video.transpose(3, 0, 1, 2), dtype=np.float32),
        "light": light.astype(np.float32),
        "mask": np.broadcast_to(shown.get("mask", np.True_), (frames, size, size)).copy(),
    }
    if normals:
        full = np.broadcast_to(shown["normals"], (frames, size, size, 3))
        out["normals"] = np.ascontiguousarray(full.transpose(3, 0, 1, 2), dtype=np.float32)
    return out


def _pick(t: int, frames: int, rng: np.random.Generator | None) -> NDArray[np.intp]:
    """Middles of equal shares, or a random frame out of each share."""
    edges = np.linspace(0, t, frames + 1)
    where = edges[:-1] + np.diff(edges) * (0.5 if rng is None else rng.random(frames))
    return np.clip(where.astype(np.intp), 0, t - 1)


def _square(images: NDArray[Any], *, channels: int = 1) -> NDArray[Any]:
    """The middle square of (..., h, w) and, if `channels`, a last axis of them."""
    height, width = images.shape[-2 - channels], images.shape[-1 - channels]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    window = (..., slice(top, top + side), slice(left, left + side)) + (slice(None),) * channels
    return images[window]
