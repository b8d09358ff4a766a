"""Numbers that say how good a picture is, and a hash that says which pictures are alike.

Everything is counted in integers up to the last division, so the numbers are the same on every machine.
"""

from functools import lru_cache
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from modalities.base import Arrays
from modalities.grey import entropy, histogram, laplacian_variance
from modalities.image.colour import check, luminance

ENOUGH = 2**13  # pixels: of more, rows evenly spread
SHORTEST = 160  # pixels: a picture is halved while no side gets shorter, three times at most
GROUPS = 48  # of rows, at most, that a fingerprint tells apart: its waves are far longer
_BITS = 64


def halvings(height: int, width: int) -> int:
    """By which power of two a picture is reduced before it is judged: 0 to 3, what a JPEG decoder can do."""
    return min(3, (min(height, width) // SHORTEST).bit_length() - 1) if min(height, width) >= SHORTEST else 0


def quality(arrays: Arrays) -> dict[str, float]:
    """Numbers of the luminance (alpha over white, 16 bits cut to 8), halved while both sides keep SHORTEST.

    So pictures of different sizes compare, and the grain of single pixels of a large one does not count.
    Of many pixels rows spread evenly are looked at.

    blur: variance of the Laplacian (4 neighbours, luminance 0..255); LOW means blurred (Pech-Pacheco, 2000).
    exposure, contrast: mean and standard deviation, luminance 0..1.
    entropy: of the 256-bin histogram, bits, 0..8.
    saturation: share of pixels at either end of the range, 0 or 255.
    aspect: width / height.
    """
    image = check(np.asarray(arrays["image"]))
    return numbers(_reduced(image), image.shape[1] / image.shape[0])


def fingerprint(arrays: Arrays) -> int:
    """64 bits: which of the 64 lowest frequencies of the picture's cosine transform are above their median.

    Hamming distances of re-encoded, resized or brightened copies stay below about 10, those of different
    pictures lie around 32 (Zauner, 2010). A picture without any structure is 0.
    """
    return printed(_reduced(check(np.asarray(arrays["image"]))))


def _reduced(image: NDArray[np.uint8 | np.uint16]) -> NDArray[np.uint8]:
    """(h, w): what both look at."""
    grey, steps = luminance(image), halvings(*image.shape[:2])
    return np.asarray(Image.fromarray(grey).reduce(2**steps)) if steps else grey


def numbers(grey: NDArray[np.uint8], aspect: float) -> dict[str, float]:
    """`quality` of a luminance (h, w) already reduced, either way up; `aspect` is the picture's."""
    # Odd: a screen's lines come in twos and fours.
    every = max(1, min(grey.size // ENOUGH - 1, len(grey) // 8)) | 1
    rows = grey[every // 2 :: every]
    counts, total = histogram(rows).astype(np.float64), rows.size
    first, second = (counts @ _MOMENTS).tolist()
    mean = first / total
    return {
        "blur": laplacian_variance(grey, every),
        "exposure": mean / 255,
        "contrast": sqrt(max(0.0, second / total - mean * mean)) / 255,
        "entropy": entropy(counts),
        "saturation": float(counts[0] + counts[255]) / total,
        "aspect": aspect,
    }


_MOMENTS = np.stack([np.arange(256.0), np.arange(256.0) ** 2], axis=1)


_ORDER = sorted(((u, v) for u in range(16) for v in range(16)), key=lambda k: (k[0] + k[1], k))[1 : _BITS + 1]
_LOW = 1 + max(max(k) for k in _ORDER)
_PLACES = np.array([u * _LOW + v for u, v in _ORDER])


def _waves(edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """The lowest frequencies of the DCT-II basis, (_LOW, n): the mean between each two edges, times 2**7."""
    angles = np.pi / edges[-1] * np.outer(np.arange(1, _LOW), edges)
    waves = np.diff(np.sin(angles), axis=1) / np.diff(angles, axis=1)
    whole: NDArray[np.float64] = np.rint(np.concatenate([np.ones((1, len(edges) - 1)), waves]) * 2**7)
    return whole


@lru_cache(maxsize=256)
def _basis(height: int, width: int) -> tuple[int, NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Rows to a group; waves of the groups, (_LOW, groups), and of the columns, (width, _LOW).

    At last what rounding leaves of the waves of a flat picture of level 1, (_BITS,).
    """
    step = -(-height // GROUPS)
    edges = np.append(np.arange(0.0, height, step), height)
    down, across = _waves(edges), _waves(np.arange(width + 1.0))
    flat = np.outer(down @ np.diff(edges), across.sum(axis=1)).reshape(-1)[_PLACES]
    return step, down, np.ascontiguousarray(across.T), flat


def printed(grey: NDArray[np.uint8]) -> int:
    """`fingerprint` of a luminance (h, w) as displayed."""
    step, down, across, flat = _basis(*grey.shape)
    # Whole numbers below 2**53, so the sums are exact in any order.
    found = (down @ _grouped(grey, step).astype(np.float64)) @ across
    values = found.reshape(-1)[_PLACES]
    values -= round(float(found[0, 0]) / (2**14 * grey.size)) * flat
    values[np.abs(values) < 2**4 * grey.size] = 0  # below a grey level in one of 32 x 32 pixels: rounding
    bits = values > np.sort(values)[_BITS // 2]
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def _grouped(grey: NDArray[np.uint8], step: int) -> NDArray[Any]:
    """Sums of every `step` rows, the last perhaps of fewer."""
    if step == 1:
        return grey
    sums: NDArray[Any] = grey[::step].astype(np.uint16 if step <= 2**8 else np.uint32)
    for i in range(1, step):
        part = grey[i::step]
        sums[: len(part)] += part
    return sums
