"""A contact sheet with the light of each frame as a small lit ball and an arrow."""

from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modalities.base import Arrays, Files
from modalities.libraries import load
from modalities.lighting import tonemap
from modalities.lighting.cuts import select
from modalities.lighting.readers.document import canonical
from modalities.lighting.transforms import resample

MAX_FRAMES = 8
SIDE = 160  # pixels of a frame's longer side
GAP = 4


def preview(arrays: Arrays) -> Files:
    """png: up to eight frames side by side; json: their indices, lights and intensities."""
    t = len(arrays["frames"])
    picks = np.unique(np.linspace(0, t - 1, min(t, MAX_FRAMES)).round().astype(np.intp))
    shown = tonemap.display(select(arrays, picks))
    scale = SIDE / max(shown.shape[1:3])
    height, width = (max(48, round(n * scale)) for n in shown.shape[1:3])
    tiles = resample(shown, height, width)
    for tile, light in zip(tiles, arrays["lights"][picks], strict=True):
        _ball(tile, light)
    sheet = np.full((height + 2 * GAP, (width + GAP) * len(tiles) + GAP, 3), 0.08, np.float32)
    for i, tile in enumerate(tiles):
        left = GAP + i * (width + GAP)
        sheet[GAP : GAP + height, left : left + width] = tile
    pixels = np.rint(np.clip(sheet, 0, 1) * 255).astype(np.uint8)
    load("PIL")
    from PIL import Image

    Image.fromarray(pixels).save(out := BytesIO(), "PNG")
    facts = {
        "frames": picks.tolist(),
        "lights": arrays["lights"][picks].round(6).tolist(),
        "intensity": arrays["intensity"][picks].round(6).tolist(),
    }
    return {"png": out.getvalue(), "json": canonical(facts).encode()}


def _ball(tile: NDArray[np.float32], light: NDArray[Any]) -> None:
    """Draw a lit ball into the lower left corner; an arrow from its middle points to the light.

    Yellow when the light comes from the viewer's side, blue when it comes from behind the object.
    """
    radius = max(min(tile.shape[:2]) // 7, 7)
    middle = np.array([tile.shape[0] - radius - 4, radius + 4])
    rows, columns = np.mgrid[: tile.shape[0], : tile.shape[1]]
    x, y = (columns - middle[1]) / radius, (middle[0] - rows) / radius
    inside = np.clip((1 - np.hypot(x, y)) * radius, 0, 1)[..., None]
    z = np.sqrt(np.maximum(1 - x * x - y * y, 0))
    shade = 0.12 + 0.8 * np.maximum(x * light[0] + y * light[1] + z * light[2], 0) ** 0.6
    tile[:] = tile * (1 - inside) + shade[..., None] * inside
    colour = np.array([1.0, 0.8, 0.15] if light[2] >= 0 else [0.3, 0.6, 1.0])
    along = np.clip(x * light[0] + y * light[1], 0, None)
    flat = max(float(light[0] ** 2 + light[1] ** 2), 1e-9)
    share = np.clip(along / flat, 0, 1)
    near = np.hypot(x - share * light[0], y - share * light[1]) * radius
    tip = np.hypot(x - light[0], y - light[1]) * radius
    stroke = np.clip(1.6 - near, 0, 1) + np.clip(radius / 7 + 1.8 - tip, 0, 1)
    stroke = np.clip(stroke, 0, 1)[..., None]
    tile[:] = tile * (1 - stroke) + colour * stroke
