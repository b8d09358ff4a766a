"""Pillow, on a short lead: one named format, and only what the header promised."""

from io import BytesIO

import numpy as np
from PIL import Image

from modalities.base import BadSample
from modalities.image.colour import Pixels
from modalities.image.schema import MAX_PIXELS, Header

Image.MAX_IMAGE_PIXELS = 2 * MAX_PIXELS  # the probe refuses sooner; Pillow's limit stays as a second line

NAMES = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP", "tif": "TIFF", "gif": "GIF", "bmp": "BMP"}
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def decode(data: bytes, header: Header) -> Pixels:
    """(stored h, stored w, c) uint8 of a probed file; whatever Pillow raises passes through."""
    with Image.open(BytesIO(data), formats=[NAMES[header.format]]) as picture:
        if picture.size != (header.width, header.height):
            raise BadSample("corrupt", f"header says {(header.width, header.height)}, decoder {picture.size}")
        mode = _MODES[header.channels]
        loaded = picture if picture.mode == "RGBX" and mode == "RGBA" else picture.convert(mode)
        pixels: Pixels = np.array(loaded).reshape(header.height, header.width, -1)
        return pixels
