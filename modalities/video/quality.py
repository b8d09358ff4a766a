"""Numbers a filter can use, from at most 32 frames."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from modalities.base import Arrays
from modalities.video.transforms import resized, scaled

MAX_PAIRS = 16
SIDE = 256  # frames are looked at with a longer side of at most this, so that numbers compare across sizes
STILL = 1 / 255  # mean change of brightness below which two frames count as the same
DARK = 16 / 255  # brightness of black in video levels


def quality(arrays: Arrays) -> Mapping[str, float]:
    """Numbers of 16 evenly spaced pairs of neighbouring frames; of a sample, neighbours in the sample.

    sharpness: variance of the Laplacian of brightness (0..255 scale), low for blur. exposure, contrast: mean
    and standard deviation of brightness, 0..1. saturation: mean HSV saturation. clipped: share of pixels at
    either end. motion: mean absolute change of brightness between neighbours, 0..1. static: share of
    neighbours that hardly change. black: share of frames that are black. Also fps and duration_s.
    """
    frames, times = arrays["frames"], arrays["times"]
    num = max(min(MAX_PAIRS, len(frames) - 1), 1)
    first = (2 * np.arange(num) + 1) * (len(frames) - 1) // (2 * num)
    second = np.minimum(first + 1, len(frames) - 1)
    h, w = frames.shape[1:3]
    sides = scaled(h, w, min(1.0, SIDE / max(h, w)))
    small = resized(frames[np.concatenate([first, second])], *sides)
    luma = brightness(small)
    pairs = np.abs(luma[num:] - luma[:num]).mean(axis=(1, 2)) if len(frames) > 1 else np.zeros(1)
    high, low = small.max(axis=3).astype(np.float32), small.min(axis=3).astype(np.float32)
    span = float(times[-1] - times[0])
    return {
        "sharpness": float(_laplacian(luma[:num] * 255).var(axis=(1, 2)).mean()),
        "exposure": float(luma[:num].mean()),
        "contrast": float(luma[:num].std(axis=(1, 2)).mean()),
        "saturation": float(((high - low) / np.maximum(high, 1)).mean()),
        "clipped": float(((luma < 2 / 255) | (luma > 253 / 255)).mean()),
        "motion": float(pairs.mean()),
        "static": float((pairs < STILL).mean()) if len(frames) > 1 else 1.0,
        "black": float((luma.mean(axis=(1, 2)) < DARK).mean()),
        "fps": (len(times) - 1) / span if span > 0 else 0.0,
        "duration_s": span,
    }


def brightness(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(t, h, w, 3) -> (t, h, w) in 0..1, weights of BT.601."""
    weights = np.array([0.299, 0.587, 0.114], np.float32) / np.float32(255)
    return np.asarray(frames.astype(np.float32) @ weights, np.float32)


def _laplacian(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Four neighbours minus four times the middle; edges repeat, so a single pixel gives 0."""
    p = np.pad(x, ((0, 0), (1, 1), (1, 1)), "edge")
    out: NDArray[np.float32] = p[:, :-2, 1:-1] + p[:, 2:, 1:-1] + p[:, 1:-1, :-2] + p[:, 1:-1, 2:] - 4 * x
    return out
