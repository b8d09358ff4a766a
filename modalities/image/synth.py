"""Small pictures of coloured shapes on cluttered ground, for tests and demos."""

from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from modalities.base import Files

CLASSES = ("disc", "ring", "square", "triangle", "cross", "stripes")


def synth(seed: int) -> Files:
    """A JPEG (even seeds) or PNG of 64..96 pixels a side, its class name in `cls`, its shape in `seg.png`.

    The class is seed % 6, so any run of seeds is balanced; everything else is drawn. `seg.png` is 0 on the
    ground and 1 + the class's number on the shape.
    """
    rng = np.random.default_rng(seed)
    height, width = (int(n) for n in rng.integers(64, 97, 2))
    label = seed % len(CLASSES)
    mask = _shape(CLASSES[label], height, width, rng)
    ground, ink = rng.uniform(20, 110, 3), rng.uniform(145, 235, 3)
    if rng.integers(2):
        ground, ink = ink, ground
    shade = _clouds(height, width, rng)[..., None] * 25
    image = np.where(mask[..., None], ink, ground) + shade + rng.normal(0, 6, (height, width, 3))
    picture = Image.fromarray(np.clip(np.rint(image), 0, 255).astype(np.uint8))
    format, extension = ("PNG", "png") if seed % 2 else ("JPEG", "jpg")
    picture.save(out := BytesIO(), format)
    Image.fromarray((mask * (1 + label)).astype(np.uint8)).save(seg := BytesIO(), "PNG")
    return {extension: out.getvalue(), "cls": CLASSES[label].encode(), "seg.png": seg.getvalue()}


def _shape(name: str, height: int, width: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """(height, width), true inside a shape of drawn place, size and, up to 20 degrees, turn."""
    radius = min(height, width) * rng.uniform(0.25, 0.38)
    middle = (np.array([height, width]) - 1) / 2 + rng.uniform(-0.1, 0.1, 2) * min(height, width)
    down, right = np.mgrid[:height, :width] - middle[:, None, None]
    turn = rng.uniform(-np.pi / 9, np.pi / 9)
    y = (down * np.cos(turn) - right * np.sin(turn)) / radius
    x = (down * np.sin(turn) + right * np.cos(turn)) / radius
    far = np.maximum(np.abs(x), np.abs(y))
    near = np.minimum(np.abs(x), np.abs(y))
    inside = {
        "disc": x**2 + y**2 < 1,
        "ring": np.abs(np.hypot(x, y) - 0.8) < 0.2,
        "square": far < 0.9,
        "triangle": (y < 0.8) & (2 * np.abs(x) < y + 1),
        "cross": (far < 1) & (near < 0.25),
        "stripes": (far < 1) & ((x * 2.5) % 1 < 0.5),
    }
    return np.asarray(inside[name])


def _clouds(height: int, width: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """(height, width) in about -1..1: slow waves, as uneven light leaves them."""
    y, x = np.mgrid[:height, :width] / max(height, width)
    waves = rng.uniform(-6, 6, (4, 2)), rng.uniform(0, 2 * np.pi, 4)
    total = np.zeros((height, width))
    for (a, b), phase in zip(*waves, strict=True):
        total += np.sin(a * y + b * x + phase)
    return total / 2
