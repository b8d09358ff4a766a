"""A picture small enough for a table of them."""

from io import BytesIO

import numpy as np
from PIL import Image

from modalities.base import Arrays, Files
from modalities.image.colour import check, rgb
from modalities.image.transforms import resample

SIDE = 256


def preview(arrays: Arrays) -> Files:
    """{"png": ...}, RGB, at most 256 pixels a side, never enlarged."""
    image = check(np.asarray(arrays["image"]))
    scale = min(1.0, SIDE / max(image.shape[:2]))
    height, width = (max(1, round(n * scale)) for n in image.shape[:2])
    Image.fromarray(rgb(resample(image, height, width, "bilinear"))).save(out := BytesIO(), "PNG")
    return {"png": out.getvalue()}
