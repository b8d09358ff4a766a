"""From a decoded video to the fixed shape a model takes."""

import math

import numpy as np
from numpy.typing import NDArray

from modalities.base import Arrays
from modalities.video.transforms import resized, scaled, shown_at


def prepare(
    arrays: Arrays,
    *,
    frames: int = 8,
    size: int = 112,
    rng: np.random.Generator | None = None,
    min_area: float = 0.5,
    flip: float = 0.0,
) -> Arrays:
    """`video` (3, t, size, size) float32 in -1..1 and `times` (t,) float32, seconds from the first frame.

    Time is cut into `frames` equal spans; of each the frame shown in its middle, or with `rng` at a random
    instant, is taken. Space: the shorter side becomes `size` and the middle is cut out, or with `rng` one
    random window of at least `min_area` of the picture, the same for all frames. `flip` is the probability
    of mirroring all frames; 0 because it turns a motion to the left into one to the right.
    """
    if frames < 1 or size < 1 or not 0 < min_area <= 1:
        raise ValueError(f"want frames, size >= 1 and 0 < min_area <= 1, got {frames}, {size}, {min_area}")
    clip, times = arrays["frames"], arrays["times"]
    within = np.full(frames, 0.5) if rng is None else rng.random(frames)
    step = (times[-1] - times[0]) / max(len(times) - 1, 1)  # the last frame is shown for a step, too
    at = times[0] + (times[-1] - times[0] + step) * (np.arange(frames) + within) / frames
    picks = shown_at(times, at)
    if rng is None:
        taken = _middle(clip[picks], size)
    else:
        taken = _window(clip[picks], size, rng, min_area)
        if rng.random() < flip:
            taken = taken[:, :, ::-1]
    video = np.ascontiguousarray(taken.transpose(3, 0, 1, 2), np.float32) / 127.5 - 1
    return {"video": video, "times": (times[picks] - times[0]).astype(np.float32)}


def _middle(clip: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    h, w = clip.shape[1:3]
    height, width = scaled(h, w, size / min(h, w))
    top, left = (height - size) // 2, (width - size) // 2
    return resized(clip, height, width)[:, top : top + size, left : left + size]


def _window(
    clip: NDArray[np.uint8], size: int, rng: np.random.Generator, min_area: float
) -> NDArray[np.uint8]:
    """A random part of the picture, `min_area` to all of it, 3:4 to 4:3, scaled to a square."""
    h, w = clip.shape[1:3]
    area = rng.uniform(min_area, 1.0) * h * w
    ratio = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
    height = min(max(round(math.sqrt(area / ratio)), 1), h)
    width = min(max(round(math.sqrt(area * ratio)), 1), w)
    top, left = int(rng.integers(h - height + 1)), int(rng.integers(w - width + 1))
    return resized(np.ascontiguousarray(clip[:, top : top + height, left : left + width]), size, size)
