"""Numbers that say how good a picture is, and a hash that says which pictures are alike.

Everything is counted in integers up to the last division, so the numbers are the same on every machine.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from modalities.base import Arrays
from modalities.image.colour import check, luminance

_SIDE = 32  # pixels a side that the hash looks at
_BITS = 64


def quality(arrays: Arrays) -> dict[str, float]:
    """Numbers of the luminance (alpha over white, 16 bits cut to 8).

    blur: variance of the Laplacian (4 neighbours, luminance 0..255); LOW means blurred (Pech-Pacheco, 2000).
    exposure, contrast: mean and standard deviation, luminance 0..1.
    entropy: of the 256-bin histogram, bits, 0..8.
    saturation: share of pixels at either end of the range, 0 or 255.
    aspect: width / height.
    """
    image = check(np.asarray(arrays["image"]))
    grey = luminance(image)
    counts = np.array(Image.fromarray(np.ascontiguousarray(grey)).histogram())  # half the time of bincount
    levels = np.arange(256)
    mean = float(counts @ levels) / grey.size
    share = counts[counts > 0] / grey.size
    return {
        "blur": _laplacian_variance(grey),
        "exposure": mean / 255,
        "contrast": max(0.0, float(counts @ levels**2) / grey.size - mean * mean) ** 0.5 / 255,
        "entropy": abs(float(-(share * np.log2(share)).sum())),
        "saturation": float(counts[0] + counts[255]) / grey.size,
        "aspect": image.shape[1] / image.shape[0],
    }


def _laplacian_variance(grey: NDArray[np.uint8]) -> float:
    if min(grey.shape) < 3:
        return 0.0
    wide = grey.astype(np.int16)
    inner = wide[:-2, 1:-1] + wide[2:, 1:-1]
    inner += wide[1:-1, :-2]
    inner += wide[1:-1, 2:]
    inner -= 4 * wide[1:-1, 1:-1]
    flat = inner.astype(np.float64).ravel()  # whole numbers: every sum below 2**53 is exact in any order
    total, squares = int(flat.sum()), int(np.square(flat, out=flat).sum())
    return (squares * inner.size - total * total) / inner.size**2


def _cosines() -> NDArray[np.int64]:
    """DCT-II basis, (32, 32), as integers scaled by 2**14."""
    steps = np.arange(_SIDE)
    waves: NDArray[np.int64] = np.rint(np.cos(np.pi / _SIDE * np.outer(steps, steps + 0.5)) * 2**14).astype(
        np.int64
    )
    return waves


_DCT = _cosines()
_ORDER = sorted(((u, v) for u in range(16) for v in range(16)), key=lambda k: (k[0] + k[1], k))[1 : _BITS + 1]


def fingerprint(arrays: Arrays) -> int:
    """64 bits: which of the 64 lowest frequencies of the picture at 32 x 32 are above their median (no mean).

    Hamming distances of re-encoded, resized or brightened copies stay below about 10, those of different
    pictures lie around 32 (Zauner, 2010). A picture without any structure is 0.
    """
    grey = luminance(check(np.asarray(arrays["image"])))
    small = np.asarray(Image.fromarray(grey).resize((_SIDE, _SIDE), Image.Resampling.BOX), np.int64)
    waves = _DCT @ small @ _DCT.T
    values = np.array([waves[u, v] for u, v in _ORDER])
    values[np.abs(values) < 2**28] = 0  # less than one grey level: rounding, not structure
    bits = values > np.sort(values)[_BITS // 2]
    return int.from_bytes(np.packbits(bits).tobytes(), "big")
