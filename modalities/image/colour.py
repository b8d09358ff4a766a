"""Channels, depth and orientation of an image array."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[Any]  # (h, w, c), c 1 grey, 3 RGB, 4 RGBA; uint8 or uint16


def check(image: Pixels) -> Pixels:
    """`image` itself, or ValueError when it is not (h, w, 1 | 3 | 4) uint8 or uint16."""
    if image.ndim != 3 or image.shape[2] not in (1, 3, 4) or image.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"image: want (h, w, 1 | 3 | 4) uint8 or uint16, got {image.shape} {image.dtype}")
    if 0 in image.shape:
        raise ValueError(f"image: want at least 1 x 1 pixels, got {image.shape}")
    return image


def orient(image: Pixels, orientation: int) -> Pixels:
    """Turn stored rows and columns into displayed ones. Source: Exif 2.32, tag 0x0112."""
    if orientation == 1:
        return np.ascontiguousarray(image)
    turned = {
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: a[::-1].swapaxes(0, 1),
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
        8: lambda a: a[:, ::-1].swapaxes(0, 1),
    }[orientation](image)
    return np.ascontiguousarray(turned)


def eight_bit(image: Pixels) -> NDArray[np.uint8]:
    """Same channels, uint8; 16-bit samples are rounded to the nearest of 256."""
    if image.dtype == np.uint8:
        return image
    return ((image.astype(np.uint32) + 128) // 257).astype(np.uint8)


def opaque(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(h, w, 4) -> (h, w, 3) over white; other images as they are."""
    if image.shape[2] != 4:
        return image
    alpha = image[..., 3:].astype(np.uint32)
    return ((image[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def rgb(image: Pixels) -> NDArray[np.uint8]:
    """(h, w, 3) uint8 of any image: grey repeated, alpha over white."""
    flat = opaque(eight_bit(image))
    return np.repeat(flat, 3, axis=2) if flat.shape[2] == 1 else flat


def luminance(image: Pixels) -> NDArray[np.uint8]:
    """(h, w) uint8, Rec. 601 weights in integers, so that it is the same number on every machine."""
    flat = opaque(eight_bit(image))
    if flat.shape[2] == 1:
        return flat[..., 0]
    # Pillow's own: (19595 red + 38470 green + 7471 blue + 32768) >> 16, ten times as fast as here.
    return np.asarray(Image.fromarray(np.ascontiguousarray(flat)).convert("L"))
