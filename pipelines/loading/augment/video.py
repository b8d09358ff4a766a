"""Steps for videos: arrays with `frames` (t, h, w, 3) uint8 and `times` (t,) in seconds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from modalities.base import Arrays
from modalities.video.codec import decode
from modalities.video.transforms import shown_at
from pipelines.loading.augment.chain import Bound, Change
from pipelines.loading.augment.image import Area, central_window, random_window
from pipelines.loading.pixels import Window, mirror, resize
from pipelines.loading.reading import Contents

Rng = np.random.Generator
Times = NDArray[np.float64]


@dataclass(frozen=True)
class Clip:
    """A step that takes some frames, planned from their times alone."""

    plan: Callable[..., NDArray[np.int64]]

    def __call__(self, arrays: Arrays, rng: Rng, **options: Any) -> Arrays:
        return taken(arrays, self.plan(arrays["times"], rng, **options))


def random_clip(
    times: Times, rng: Rng, *, frames: int = 8, rate: float | None = None, jitter: float = 0.5
) -> NDArray[np.int64]:
    """Which frames: `frames` of them at `rate` a second from a random start, or spread over the whole video.

    Each is moved by a random share, up to -+ `jitter`, of the time between two.
    """
    step = float(times[-1] - times[0]) / max(len(times) - 1, 1)  # the last frame is shown for a step, too
    length = float(times[-1] - times[0]) + step
    apart = min(1 / rate, length / frames) if rate else length / frames
    first = times[0] + rng.uniform(0, length - apart * frames)
    at = first + apart * (np.arange(frames) + 0.5 + jitter * rng.uniform(-1, 1, frames))
    return shown_at(times, np.sort(at))


def taken(arrays: Arrays, picks: NDArray[np.int64]) -> Arrays:
    """The frames `picks`, with their times."""
    count = np.array(len(picks), np.int64)
    return {**arrays, "frames": arrays["frames"][picks], "times": arrays["times"][picks], "num_frames": count}


def open(contents: Contents) -> Contents:
    """Nothing is looked at before the frames are known."""
    return contents


def start(
    contents: Contents, steps: Sequence[Bound], rng: Rng | None, place: Callable[..., NDArray[Any]] | None
) -> tuple[Arrays, Sequence[Bound]] | None:
    """Only the frames of the first step are decoded, each from the keyframe before it."""
    if not steps or not isinstance(clip := steps[0][0], Clip):
        return None
    wanted: list[NDArray[np.int64]] = []

    def choose(times: Times) -> NDArray[np.int64]:
        wanted.append(clip.plan(times, rng, **steps[0][1]))
        return np.unique(wanted[0])

    arrays = decode({name: bytes(content) for name, content in contents.items()}, choose=choose)
    again = np.searchsorted(np.unique(wanted[0]), wanted[0])  # a short video gives a frame more than once
    return taken(arrays, np.minimum(again, len(arrays["frames"]) - 1)), steps[1:]


@dataclass(frozen=True)
class Crop:
    """A step that takes one window of all frames."""

    plan: Callable[..., Window]

    def __call__(self, arrays: Arrays, rng: Rng, **options: Any) -> Arrays:
        window = self.plan(arrays["frames"].shape[1:3], rng, **options)
        rows = slice(window.top, window.top + window.height)
        columns = slice(window.left, window.left + window.width)
        frames = np.stack([resize(frame[rows, columns], window.size) for frame in arrays["frames"]])
        return {**arrays, "frames": frames}


def _random_window(
    shape: tuple[int, int],
    rng: Rng,
    *,
    size: int = 112,
    area: Area = (0.25, 1.0),
    aspect: Area = (3 / 4, 4 / 3),
) -> Window:
    """A part of `area` of the picture, its sides in the ratio `aspect`."""
    return random_window(shape, rng, size=size, area=area, aspect=aspect)


def flip(arrays: Arrays, rng: Rng, *, probability: float = 0.5) -> Arrays:
    """Left and right exchanged in all frames: a motion to the left becomes one to the right."""
    if rng.random() >= probability:
        return arrays
    return {**arrays, "frames": mirror(arrays["frames"])}


def colour(
    arrays: Arrays, rng: Rng, *, brightness: float = 0.4, contrast: float = 0.4, saturation: float = 0.4
) -> Arrays:
    """Factors of 1 -+ the number, the same for all frames."""
    enhancers = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
    factors = [rng.uniform(max(0, 1 - spread), 1 + spread) for spread in (brightness, contrast, saturation)]
    frames = []
    for frame in arrays["frames"]:
        picture = Image.fromarray(frame)
        for enhancer, factor in zip(enhancers, factors, strict=True):
            picture = enhancer(picture).enhance(factor)
        frames.append(np.asarray(picture))
    return {**arrays, "frames": np.stack(frames)}


STEPS: dict[str, Change] = {
    "clip": Clip(random_clip),
    "random_resized_crop": Crop(_random_window),
    "center_crop": Crop(central_window),
    "flip": flip,
    "colour": colour,
}
