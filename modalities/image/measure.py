"""Quality and fingerprint straight from a file: the whole stream is decoded, not every pixel is made."""

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from modalities.base import BadSample, Files, Measured, Meta
from modalities.image.codec import SEGMENTATION, decode, picture_name
from modalities.image.colour import orient
from modalities.image.quality import fingerprint, halvings, numbers, printed, quality


def measure(files: Files, meta: Meta) -> Measured:
    """What `quality` and `fingerprint` say of the decoded picture; of a JPEG, within a few grey levels.

    Of a JPEG every coefficient is read, so that damage is noticed as by `decode`, but only the luminance is
    turned into pixels, at the size that will be looked at.
    """
    if meta["format"] != "jpg" or meta["mode"] == "cmyk" or SEGMENTATION in files:
        arrays = decode(files)
        return quality(arrays), fingerprint(arrays)
    grey = _luminance(files[picture_name(files)], meta["stored_height"], meta["stored_width"])
    upright = orient(grey, meta["orientation"])
    return numbers(upright, meta["width"] / meta["height"]), printed(upright)


def _luminance(data: bytes, height: int, width: int) -> NDArray[np.uint8]:
    """(h, w) as stored, reduced as `quality` wants it."""
    factor = 2 ** halvings(height, width)
    want = -(-height // factor), -(-width // factor)
    try:
        grey: NDArray[np.uint8] = simplejpeg.decode_jpeg(
            data, "GRAY", min_height=want[0], min_width=want[1], min_factor=factor
        )
    except MemoryError:
        raise
    except Exception as error:
        raise BadSample("corrupt", f"jpg: {type(error).__name__}: {error}") from error
    if grey.shape != (*want, 1):
        raise BadSample("corrupt", f"jpg says {height} x {width}, 1/{factor} of it decodes to {grey.shape}")
    return grey[..., 0]
