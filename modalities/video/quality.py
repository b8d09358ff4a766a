"""Numbers a filter can use, from at most 32 frames.

Everything is counted in integers up to the last division, so the numbers are the same on every machine.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from modalities.base import Arrays
from modalities.video.transforms import resized, scaled

MAX_PAIRS = 16
SIDE = 256  # frames are looked at with a longer side of at most this, so that numbers compare across sizes
STILL = 1.0  # mean change of luminance, of 255, below which two frames count as the same
DARK = 16.0  # luminance of black in video levels, of 255


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
    num = max(min(MAX_PAIRS, len(frames) - 1), 1)
    first = (2 * np.arange(num) + 1) * (len(frames) - 1) // (2 * num)
    second = np.minimum(first + 1, len(frames) - 1)
    h, w = frames.shape[1:3]
    sides = scaled(h, w, min(1.0, SIDE / max(h, w)))
    grey = luminance(resized(frames[np.concatenate([first, second])], *sides))
    area, levels = sides[0] * sides[1], np.arange(256)
    counts = np.stack([np.bincount(frame.ravel(), minlength=256) for frame in grey])
    means = counts @ levels / area
    spread = counts @ levels**2 / area - means**2
    share = counts.sum(axis=0) / grey.size
    shown = share[share > 0]
    changes = np.abs(grey[num:] - grey[:num]).sum(axis=(1, 2), dtype=np.int64) / area
    span = float(times[-1] - times[0])
    return {
        "blur": float(np.mean([_laplacian_variance(frame) for frame in grey[:num]])),
        "exposure": float(means.mean()) / 255,
        "contrast": float(np.sqrt(np.maximum(spread, 0)).mean()) / 255,
        "entropy": abs(float(-(shown * np.log2(shown)).sum())),
        "saturation": float(share[0] + share[255]),
        "motion": float(changes.mean()) / 255,
        "static": float((changes < STILL).mean()),
        "black": float((means < DARK).mean()),
        "fps": (len(times) - 1) / span if span > 0 else 0.0,
        "duration_s": span,
    }


def luminance(frames: NDArray[np.uint8]) -> NDArray[np.int32]:
    """(t, h, w, 3) -> (t, h, w), 0..255, weights of BT.601 in thousandths."""
    wide = frames.astype(np.int32)
    return np.asarray((299 * wide[..., 0] + 587 * wide[..., 1] + 114 * wide[..., 2] + 500) // 1000, np.int32)


def _laplacian_variance(grey: NDArray[np.int32]) -> float:
    if min(grey.shape) < 3:
        return 0.0
    inner = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * grey[1:-1, 1:-1]
    total, squares = int(inner.sum(dtype=np.int64)), int(np.square(inner, dtype=np.int64).sum())
    return (squares * inner.size - total * total) / inner.size**2
