"""TIFF with 16 bits a sample: libtiff decompresses bytes, numpy makes samples of them.

Pillow cuts 16-bit colour down to 8. So it is shown the same strips and tiles under a directory that speaks of
8-bit samples, twice as many; byte order, prediction and colour are then undone here.
Source: TIFF 6.0, sec. 2, 14 (predictor), 15 (tiles).
"""

import struct
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from modalities.image.readers.ifd import Tiff
from modalities.image.readers.span import Span
from modalities.image.readers.tiff import Layout, layout


def decode(data: bytes, channels: int) -> NDArray[np.uint16]:
    """(h, w, channels) of a probed 16-bit TIFF's first page, orientation not applied."""
    tiff = Tiff.open(Span(len(data), data=data))
    page = layout(tiff, tiff.directory(tiff.first))
    if page.separate:
        size = len(page.offsets) // page.samples
        starts = range(0, len(page.offsets), size)
        planes = [_plane(data, tiff.order, page, 1, slice(at, at + size)) for at in starts]
        image = np.concatenate(planes, axis=2)
    elif page.samples == 2:  # libtiff has no name for two half samples of grey and two of alpha
        image = _plane(data, tiff.order, page, 2, slice(None))
    else:
        image = _plane(data, tiff.order, page, page.samples, slice(None))
    if page.photometric == 0:
        image[..., :1] = 65535 - image[..., :1]
    if page.associated and page.samples in (2, 4):
        image = _divide(image)
    if page.samples == 2:
        return image[..., [0, 0, 0, 1]]
    return image


def _plane(data: bytes, order: str, page: Layout, samples: int, pieces: slice) -> NDArray[np.uint16]:
    """(h, w, samples) of the strips or tiles in `pieces`."""
    shown = 4 if samples == 4 else 3 if samples == 3 else 1
    stretch = 2 * samples // shown  # pixels of `shown` bytes that make one of ours
    wide, tile = page.width * stretch, (page.tile[0] * stretch, page.tile[1])
    tags: dict[int, tuple[int, ...]] = {
        256: (wide,),
        257: (page.height,),
        258: (8,) * shown,
        259: (page.compression,),
        262: (1 if shown == 1 else 2,),
        277: (shown,),
        284: (1,),
        (324 if page.tiled else 273): page.offsets[pieces],
        (325 if page.tiled else 279): page.counts[pieces],
    }
    tags |= {322: tile[:1], 323: tile[1:]} if page.tiled else {278: tile[1:]}
    tags |= {338: (2,)} if shown == 4 else {}
    with Image.open(BytesIO(_under_directory(data, order, tags)), formats=["TIFF"]) as picture:
        raw = np.array(picture).reshape(page.height, -1)
    image = raw.view(order + "u2").astype(np.uint16).reshape(page.height, page.width, samples)
    if page.predictor == 2 and page.compression != 1:
        for left in range(0, page.width, page.tile[0]):
            part = image[:, left : left + page.tile[0]]
            part[...] = np.cumsum(part, axis=1, dtype=np.uint16)
    return image


def _under_directory(data: bytes, order: str, tags: dict[int, tuple[int, ...]]) -> bytes:
    """The same bytes with a classic TIFF directory of `tags`, all of them 32-bit integers, at the end."""
    start = len(data) + len(data) % 2
    body = struct.pack(order + "H", len(tags))
    spill = start + 2 + 12 * len(tags) + 4
    values = b""
    for tag in sorted(tags):
        packed = struct.pack(f"{order}{len(tags[tag])}I", *tags[tag])
        if len(packed) > 4:
            packed, values = struct.pack(order + "I", spill + len(values)), values + packed
        body += struct.pack(order + "HHI", tag, 4, len(tags[tag])) + packed
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", start)
    return b"".join([head, data[8:], b"\0" * (len(data) % 2), body, b"\0" * 4, values])


def _divide(image: NDArray[Any]) -> NDArray[np.uint16]:
    """Colours that were multiplied by alpha, as they were before; black where alpha is 0."""
    alpha = image[..., -1:].astype(np.uint64)
    colours = image[..., :-1] * np.uint64(65535) // np.maximum(alpha, 1)
    return np.concatenate([np.minimum(colours, 65535), alpha], axis=2).astype(np.uint16)
