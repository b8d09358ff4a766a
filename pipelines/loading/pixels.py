"""JPEGs straight into the memory of their batch, at the scale that is needed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import simplejpeg
import torch
from numpy.typing import NDArray

from modalities.base import BadSample
from modalities.image.readers import jpeg
from modalities.image.readers.span import Span
from modalities.image.schema import Header
from modalities.image.transforms import resample
from pipelines.loading.reading import Contents

Pixels = NDArray[np.uint8]  # (h, w, c)
Place = Callable[[Sequence[int]], Pixels]  # shape -> memory to decode into


@dataclass(frozen=True)
class Window:
    """A part of a picture, in pixels of its full size, and the size it is brought to."""

    top: int
    left: int
    height: int
    width: int
    size: tuple[int, int]  # (height, width)


def plain_jpeg(contents: Contents) -> tuple[memoryview, Header] | None:
    """The JPEG of a sample that has nothing to be turned, converted or cut along with it, or None."""
    data = contents.get("jpg")
    if data is None or "seg.png" in contents or bytes(data[:3]) != b"\xff\xd8\xff":
        return None
    header = jpeg.read(Span(len(data), data=data))  # a copy of the file would cost as much as its header
    return (data, header) if header.orientation == 1 and header.mode in ("rgb", "grey") else None


def decode(data: memoryview, header: Header, place: Place | None = None) -> Pixels:
    """(h, w, c) uint8, c 1 or 3, in the memory that `place` gives."""
    shape = (header.height, header.width, header.channels)
    return _decoded(data, "GRAY" if header.channels == 1 else "RGB", shape, place(shape) if place else None)


def decode_window(data: memoryview, header: Header, window: Window) -> Pixels:
    """(*window.size, 3): a window decoded at the smallest scale that still has its pixels, then resized."""
    scale = min(1.0, max(window.size[0] / window.height, window.size[1] / window.width))
    least = int(np.ceil(header.height * scale)), int(np.ceil(header.width * scale))
    pixels = _decoded(data, "RGB", None, None, min_height=least[0], min_width=least[1], min_factor=2)
    down, across = pixels.shape[0] / header.height, pixels.shape[1] / header.width
    top, left = round(window.top * down), round(window.left * across)
    bottom = max(top + 1, round((window.top + window.height) * down))
    right = max(left + 1, round((window.left + window.width) * across))
    return resize(pixels[top:bottom, left:right], window.size)


def resize(pixels: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """(h, w, c) -> (*size, c), same type, bilinear with antialiasing.

    Torch's kernel for interleaved bytes takes a third of Pillow's time; other types go by `resample`.
    """
    if pixels.shape[:2] == tuple(size):
        return np.ascontiguousarray(pixels)
    if pixels.dtype != np.uint8 or pixels.shape[2] == 1:
        return resample(np.ascontiguousarray(pixels), size[0], size[1], "bilinear")
    # The batch comes first: added last it has a stride that torch takes for that of planes, one for each
    # channel. It would give planes back, and to interleave those takes as long as all the rest.
    planes = _tensor(pixels)[None].permute(0, 3, 1, 2)  # a view: channels last in memory
    small = torch.nn.functional.interpolate(planes, size=size, mode="bilinear", antialias=True)
    return np.ascontiguousarray(small.permute(0, 2, 3, 1)[0].numpy())


def mirror(pixels: NDArray[Any]) -> NDArray[Any]:
    """(..., w, c) with left and right exchanged; torch takes a tenth of numpy's time for bytes."""
    if pixels.dtype != np.uint8:
        return np.ascontiguousarray(pixels[..., ::-1, :])
    mirrored: NDArray[Any] = torch.flip(_tensor(pixels), (-2,)).numpy()
    return mirrored


def _tensor(pixels: NDArray[Any]) -> torch.Tensor:
    """Of contiguous memory; what Pillow gives is copied, since torch has no read-only tensors."""
    whole = np.ascontiguousarray(pixels)
    return torch.from_numpy(whole if whole.flags.writeable else whole.copy())


def _decoded(
    data: memoryview, space: str, shape: tuple[int, ...] | None, buffer: Pixels | None, **scale: int
) -> Pixels:
    try:
        pixels: Pixels = simplejpeg.decode_jpeg(data, space, buffer=buffer, **scale)
    except ValueError as error:
        raise BadSample("corrupt", f"jpg: {error}") from error
    if shape is not None and pixels.shape != shape:
        raise BadSample("corrupt", f"jpg says {shape} and decodes to {pixels.shape}")
    return pixels
