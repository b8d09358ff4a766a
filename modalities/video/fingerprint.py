"""A 64-bit hash that survives another codec, size or frame rate, and tells motions apart."""

import numpy as np
from numpy.typing import NDArray

from modalities.base import Arrays
from modalities.libraries import load
from modalities.video.quality import luminance, resized
from modalities.video.transforms import shown_at

SHOTS, SIDE = 16, 32
SPACE_BITS, TIME_BITS = 40, 24
FAINT = 0.03  # coefficients below this, of a luminance of 0..255, are noise of the codec


def fingerprint(arrays: Arrays) -> int:
    """40 bits of the mean picture, 24 of how it changes, from the 3-D cosine transform of 16 keyframes.

    These are shown in the middle of 16 equal spans; a codec's own move with every encoder. After B. Coskun,
    B. Sankur and N. Memon, Spatio-temporal transform based video hashing, IEEE Trans. Multimedia 8(6), 2006;
    departs from it by separating space from time, so that still videos hash by their picture alone.
    """
    frames = arrays["frames"]
    picks = shots(arrays["times"]).tolist()
    small = {i: resized(luminance(frames[i]), (SIDE, SIDE)) for i in sorted(set(picks))}
    return printed(np.stack([small[i] for i in picks]))


def shots(times: NDArray[np.float64]) -> NDArray[np.int64]:
    """(16,): which frames are looked at, some more than once in a short video."""
    span = times[-1] - times[0]
    return shown_at(times, times[0] + span * (np.arange(SHOTS) + 0.5) / SHOTS)


def printed(small: NDArray[np.uint8]) -> int:
    """`fingerprint` of the luminance of the shots, (16, 32, 32)."""
    load("scipy.fft")
    from scipy.fft import dctn

    cube = np.round(dctn(small.astype(np.float64), norm="forward"), 6)  # so that ties are ties everywhere
    space = np.array([cube[0, y, x] for y, x in _diagonal(SPACE_BITS)])
    time = np.array([cube[t, y, x] for t in (1, 2) for y, x in [(0, 0), *_diagonal(TIME_BITS // 2 - 1)]])
    bits = np.concatenate([space > np.median(space), time > FAINT])
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def _diagonal(count: int) -> list[tuple[int, int]]:
    """The `count` lowest frequencies (y, x) after the mean, by y + x."""
    grid = sorted(((y, x) for y in range(12) for x in range(12)), key=lambda p: (p[0] + p[1], p[0]))
    return grid[1 : count + 1]
