"""Numbers that say how good a picture is, and a hash that says which pictures are alike.

Everything is counted in integers up to the last division, so the numbers are the same on every machine.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from modalities.base import Arrays
from modalities.grey import histogram, laplacian_variance
from modalities.image.colour import check, luminance

ENOUGH = 2**13  # pixels: of more, rows evenly spread
SHORTEST = 160  # pixels: a picture is halved while no side gets shorter, three times at most
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
    counts = histogram(grey[every // 2 :: every])
    total = int(counts.sum())
    mean = float(counts @ _LEVELS) / total
    share = counts[counts > 0] / total
    return {
        "blur": laplacian_variance(grey, every),
        "exposure": mean / 255,
        "contrast": max(0.0, float(counts @ _SQUARES) / total - mean * mean) ** 0.5 / 255,
        "entropy": abs(float(share @ np.log2(share))),
        "saturation": float(counts[0] + counts[255]) / total,
        "aspect": aspect,
    }


_LEVELS = np.arange(256)
_SQUARES = _LEVELS**2


_ORDER = sorted(((u, v) for u in range(16) for v in range(16)), key=lambda k: (k[0] + k[1], k))[1 : _BITS + 1]
_LOW = 1 + max(max(k) for k in _ORDER)
_PLACES = np.array([u * _LOW + v for u, v in _ORDER])


@lru_cache(maxsize=256)
def _waves(length: int) -> NDArray[np.float64]:
    """The lowest frequencies of the DCT-II basis, (_LOW, length): the mean over each pixel, times 2**7."""
    edges = np.pi / length * np.outer(np.arange(1, _LOW), np.arange(length + 1))
    waves = np.diff(np.sin(edges), axis=1) / edges[:, 1:2]
    whole: NDArray[np.float64] = np.rint(np.concatenate([np.ones((1, length)), waves]) * 2**7)
    return whole


@lru_cache(maxsize=256)
def _flat(height: int, width: int) -> NDArray[np.float64]:
    """What a flat picture of level 1 has of each wave, by rounding."""
    return np.outer(_waves(height).sum(axis=1), _waves(width).sum(axis=1))


def printed(grey: NDArray[np.uint8]) -> int:
    """`fingerprint` of a luminance (h, w) as displayed."""
    steps = [-(-side // 512) for side in grey.shape]
    if steps != [1, 1]:
        grey = np.asarray(Image.fromarray(grey).reduce((steps[1], steps[0])))
    down, across = map(_waves, grey.shape)
    # Whole numbers, at most 2**24 here and 2**40 there, so the sums are exact in any order.
    rows = down.astype(np.float32) @ grey.astype(np.float32)
    found = rows.astype(np.float64) @ across.T
    found -= np.rint(found[0, 0] / (2**14 * grey.size)) * _flat(*grey.shape)
    values = found.reshape(-1)[_PLACES]
    values[np.abs(values) < 2**4 * grey.size] = 0  # below a grey level in one of 32 x 32 pixels: rounding
    bits = values > np.sort(values)[_BITS // 2]
    return int.from_bytes(np.packbits(bits).tobytes(), "big")
