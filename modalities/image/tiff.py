"""TIFF pixels: libtiff decompresses, under a directory of our own making.

Pillow hands libtiff the file's bytes. Here it gets the same strips and tiles with a directory that holds only
the tags that were checked, so that nothing else in the file (other pages, orientation, XMP) has a say. And as
Pillow cuts 16-bit colour down to 8, such a file is shown as one of 8-bit samples, twice as many; byte order,
prediction and colour are then undone here.
Source: TIFF 6.0, sec. 2, 14 (predictor), 15 (tiles).
"""

import struct
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from modalities.image import pillow
from modalities.image.colour import Pixels
from modalities.image.readers.ifd import INTEGERS, SIZES, Entry, Tiff
from modalities.image.readers.span import Span
from modalities.image.readers.tiff import Layout, layout
from modalities.image.schema import Header

_LONG = 4
_NEEDED = (  # size, samples, compression, strips, tiles; fill order, fax options, palette, JPEG tables, YCbCr
    *(256, 257, 258, 259, 262, 273, 277, 278, 279, 284, 317, 322, 323, 324, 325, 338),
    *(266, 292, 293, 320, 347, 529, 530, 531, 532),
)


def decode(data: bytes, header: Header) -> Pixels:
    """(stored h, stored w, c) of a probed TIFF's first page, orientation not applied."""
    tiff = Tiff.open(Span(len(data), data=data))
    entries = tiff.directory(tiff.first)
    if header.bit_depth == 16:
        return _deep(data, tiff.order, layout(tiff, entries))
    tags = {tag: _copied(tiff, entries[tag]) for tag in _NEEDED if tag in entries}
    return pillow.decode(_under_directory(data, tiff.order, tags), header)


def _copied(tiff: Tiff, entry: Entry) -> tuple[int, bytes]:
    if entry.kind not in INTEGERS:
        return entry.kind, tiff.blob(entry)
    numbers = tiff.numbers(entry)
    return _LONG, struct.pack(f"{tiff.order}{len(numbers)}I", *numbers)


def _deep(data: bytes, order: str, page: Layout) -> NDArray[np.uint16]:
    if page.separate:
        size = len(page.offsets) // page.samples
        starts = range(0, len(page.offsets), size)
        planes = [_plane(data, order, page, 1, slice(at, at + size)) for at in starts]
        image = np.concatenate(planes, axis=2)
    elif page.samples == 2:  # libtiff has no name for two half samples of grey and two of alpha
        image = _plane(data, order, page, 2, slice(None))
    else:
        image = _plane(data, order, page, page.samples, slice(None))
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
    numbers: dict[int, tuple[int, ...]] = {
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
    numbers |= {322: tile[:1], 323: tile[1:]} if page.tiled else {278: tile[1:]}
    numbers |= {338: (2,)} if shown == 4 else {}
    tags = {tag: (_LONG, struct.pack(f"{order}{len(v)}I", *v)) for tag, v in numbers.items()}
    with Image.open(BytesIO(_under_directory(data, order, tags)), formats=["TIFF"]) as picture:
        raw = np.array(picture).reshape(page.height, -1)
    image = raw.view(order + "u2").astype(np.uint16).reshape(page.height, page.width, samples)
    if page.predictor == 2 and page.compression != 1:
        for left in range(0, page.width, page.tile[0]):
            part = image[:, left : left + page.tile[0]]
            part[...] = np.cumsum(part, axis=1, dtype=np.uint16)
    return image


def _under_directory(data: bytes, order: str, tags: dict[int, tuple[int, bytes]]) -> bytes:
    """The same bytes with a classic TIFF directory of `tags`, (type, values packed), at the end."""
    start = len(data) + len(data) % 2
    body = struct.pack(order + "H", len(tags))
    spill = start + 2 + 12 * len(tags) + 4
    values = b""
    for tag in sorted(tags):
        kind, packed = tags[tag]
        count = len(packed) // SIZES[kind]
        if len(packed) > 4:
            packed, values = (
                struct.pack(order + "I", spill + len(values)),
                values + packed + b"\0" * (len(packed) % 2),
            )
        body += struct.pack(order + "HHI", tag, kind, count) + packed.ljust(4, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", start)
    return b"".join([head, data[8:], b"\0" * (len(data) % 2), body, b"\0" * 4, values])


def _divide(image: NDArray[Any]) -> NDArray[np.uint16]:
    """Colours that were multiplied by alpha, as they were before; black where alpha is 0."""
    alpha = image[..., -1:].astype(np.uint64)
    colours = image[..., :-1] * np.uint64(65535) // np.maximum(alpha, 1)
    return np.concatenate([np.minimum(colours, 65535), alpha], axis=2).astype(np.uint16)
