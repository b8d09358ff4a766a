"""Numbers a filter can use, from at most 32 frames.

Everything is counted in integers up to the last division, so the numbers are the same on every machine.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from modalities.base import Arrays
from modalities.grey import entropy, histogram, laplacian_variance
from modalities.video.transforms import scaled

MAX_PAIRS = 16
SIDE = 256  # frames are looked at with a longer side of at most this, so that numbers compare across sizes
STILL = 1.0  # mean change of luminance, of 255, below which two frames count as the same
DARK = 16.0  # luminance of black in video levels, of 255

Grey = NDArray[np.uint8]  # (h, w), the luminance of a frame
Pairs = tuple[NDArray[np.int64], NDArray[np.int64]]


def quality(arrays: Arrays) -> Mapping[str, float]:
    """Numbers of 16 evenly spaced pairs of neighbouring frames; of a sample, neighbours in the sample.

    blur: mean variance of the Laplacian (4 neighbours, luminance 0..255); LOW means blurred.
    exposure, contrast: mean and (mean over frames) standard deviation of luminance, 0..1.
    entropy: of the luminance histogram, bits, 0..8. saturation: share of pixels at luminance 0 or 255.
    motion: mean absolute change of luminance between neighbours, 0..1.
    static: share of neighbours that hardly change. black: share of frames that are black.
    fps, duration_s: of the frames here, first to last.
    """
    frames, times = arrays["frames"], arrays["times"]
    both = pairs(len(frames))
    sides = seen(*frames.shape[1:3])
    return numbers({i: resized(luminance(frames[i]), sides) for i in np.unique(both).tolist()}, both, times)


def pairs(num_frames: int) -> Pairs:
    """First and second frame of each pair: (p,) and (p,)."""
    num = max(min(MAX_PAIRS, num_frames - 1), 1)
    first = (2 * np.arange(num) + 1) * (num_frames - 1) // (2 * num)
    return first, np.minimum(first + 1, num_frames - 1)


def seen(height: int, width: int) -> tuple[int, int]:
    """The (h, w) that frames of this size are looked at in."""
    return scaled(height, width, min(1.0, SIDE / max(height, width)))


def luminance(frame: NDArray[np.uint8]) -> Grey:
    """(h, w, 3) -> (h, w), 0..255, weights of BT.601."""
    return np.asarray(Image.fromarray(np.ascontiguousarray(frame)).convert("L"))


def resized(grey: Grey, sides: tuple[int, int]) -> Grey:
    """(h, w) -> sides, bilinear, averaging when it shrinks."""
    if grey.shape == sides:
        return grey
    image = Image.fromarray(grey)
    return np.asarray(image.resize(sides[::-1], Image.Resampling.BILINEAR, reducing_gap=2.0))


def numbers(greys: Mapping[int, Grey], both: Pairs, times: NDArray[np.float64]) -> Mapping[str, float]:
    """`quality` of the frames named by the pairs, already small; `times` are those of all frames."""
    area, levels = next(iter(greys.values())).size, np.arange(256)
    first, second = (side.tolist() for side in both)
    each = {i: histogram(greys[i]) for i in {*first, *second}}
    counts = np.stack([each[i] for i in (*first, *second)])
    means = counts @ levels / area
    spread = counts @ levels**2 / area - means**2
    share = counts.sum(axis=0) / counts.sum()
    changes = np.array([_change(greys[a], greys[b]) for a, b in zip(first, second, strict=True)]) / area
    span = float(times[-1] - times[0])
    return {
        "blur": float(np.mean([laplacian_variance(greys[i]) for i in first])),
        "exposure": float(means.mean()) / 255,
        "contrast": float(np.sqrt(np.maximum(spread, 0)).mean()) / 255,
        "entropy": entropy(counts.sum(axis=0)),
        "saturation": float(share[0] + share[255]),
        "motion": float(changes.mean()) / 255,
        "static": float((changes < STILL).mean()),
        "black": float((means < DARK).mean()),
        "fps": (len(times) - 1) / span if span > 0 else 0.0,
        "duration_s": span,
    }


def _change(one: Grey, other: Grey) -> int:
    """Sum of absolute differences."""
    return int((np.maximum(one, other) - np.minimum(one, other)).sum(dtype=np.int64))
