"""What a job may ask to be changed about a video. Each returns new arrays; nothing happens unasked."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from modalities.base import Arrays, check_decoded
from modalities.video.writer import lossy


def frames(arrays: Arrays, *, every_s: float | None = None, num: int | None = None) -> Arrays:
    """Fewer frames: the one shown at each multiple of `every_s` from the first on, or `num` evenly spaced.

    They keep their times. The result is a video of its own: `num_frames` is what is left.
    """
    if (every_s is None) == (num is None):
        raise ValueError(f"give every_s or num, got every_s={every_s}, num={num}")
    times = arrays["times"]
    if every_s is not None:
        if not every_s > 0:
            raise ValueError(f"every_s must be above 0, got {every_s}")
        count = int((times[-1] - times[0]) / every_s + 1e-9) + 1
        picks = shown_at(times, times[0] + every_s * np.arange(count))
    else:
        if num is None or num < 1:
            raise ValueError(f"num must be at least 1, got {num}")
        num = min(num, len(times))
        picks = (2 * np.arange(num) + 1) * len(times) // (2 * num)
    picks = np.unique(picks)
    return {
        **arrays,
        "frames": arrays["frames"][picks],
        "times": times[picks],
        "num_frames": np.array(len(picks), np.int64),
    }


def shown_at(times: NDArray[np.float64], seconds: NDArray[np.float64]) -> NDArray[np.int64]:
    """Index of the frame on screen at each of `seconds`: the last that has begun, by half a microsecond."""
    return np.maximum(np.searchsorted(times, seconds + 5e-7, "right") - 1, 0)


def resize(
    arrays: Arrays, *, shorter: int | None = None, height: int | None = None, width: int | None = None
) -> Arrays:
    """Every frame to `height` x `width`, or to a shorter side of `shorter` with the proportions kept."""
    h, w = arrays["frames"].shape[1:3]
    if shorter is not None and height is None and width is None:
        height, width = scaled(h, w, shorter / min(h, w))
    elif shorter is not None or height is None or width is None:
        raise ValueError(
            f"give shorter, or height and width; got shorter={shorter}, height={height}, width={width}"
        )
    if min(height, width) < 1:
        raise ValueError(f"sides must be at least 1 pixel, got {height}x{width}")
    check_decoded("frames", (len(arrays["frames"]), height, width, 3), 1)
    return {**arrays, "frames": resized(arrays["frames"], height, width)}


def scaled(h: int, w: int, factor: float) -> tuple[int, int]:
    """Sides times `factor`, at least one pixel."""
    return max(round(h * factor), 1), max(round(w * factor), 1)


def resized(frames: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """(t, h, w, 3) -> (t, height, width, 3), bilinear, averaging when it shrinks."""
    if frames.shape[1:3] == (height, width):
        return frames
    out = np.empty((len(frames), height, width, 3), np.uint8)
    for number, frame in enumerate(frames):
        out[number] = np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BILINEAR))
    return out


def transcode(arrays: Arrays, *, codec: str = "h264", crf: int = 23) -> Arrays:
    """Ask `encode` for a lossy codec: h264, av1 (MP4) or vp9 (WebM). The frames here stay as they are.

    Colour is halved (4:2:0), so an odd side grows by one pixel.
    """
    lossy(codec, crf)  # complains early
    return {**arrays, "codec": np.array(codec), "crf": np.array(crf, np.int64)}
