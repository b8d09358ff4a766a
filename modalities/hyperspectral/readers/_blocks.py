"""The pixels of a plain TIFF, unpacked here: setting up GDAL takes as long as unpacking a small cube.

Source: TIFF 6.0, sec. 3, 8, 14 and 15; Adobe Photoshop TIFF Technical Notes (2002) for deflate.
"""

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any, cast

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from modalities.hyperspectral.readers._ifd import Tag, Tiff

_SHORT, _COUNTS = (3,), (3, 4)
# Tag -> types its values may have. A directory with any other tag is for GDAL to judge.
_PLAIN: dict[int, tuple[int, ...]] = {
    254: (4,), 256: _COUNTS, 257: _COUNTS, 258: _SHORT, 259: _SHORT, 262: _SHORT, 273: (4,), 277: _SHORT,
    278: _COUNTS, 279: _COUNTS, 284: _SHORT, 317: _SHORT, 322: _COUNTS, 323: _COUNTS, 324: (4,), 325: _COUNTS,
    338: _SHORT, 339: _SHORT, 33550: (12,), 33922: (12,), 34264: (12,), 34735: _SHORT, 34736: (12,),
    34737: (2,), 42112: (2,), 42113: (2,),
}  # fmt: skip
_NEEDED = (256, 257, 258, 259, 262, 277, 284)
_SINGLE = (254, 256, 257, 259, 262, 277, 278, 284, 317, 322, 323)
_NONE, _DEFLATE = (1,), (8, 32946)
_DIFFERENCES = 2  # predictor
_BROKEN = cast(type[Exception], isal_zlib.error)  # its stubs say that it is no type


def read(tiff: Tiff, shape: tuple[int, int, int], dtype: np.dtype[Any]) -> NDArray[Any] | None:
    """(h, w, c) of a file whose directory was checked to be of this shape and type.

    None for whatever is not plain, or does not unpack to the last byte and checksum: GDAL says what it is.
    """
    directories = tiff.directories()
    tags = next(directories)
    if tiff.big or next(directories, None) is not None or not _is_plain(tags):
        return None
    if tiff.whole(tiff.whole(4, 4), 2) != len(tags):  # an entry twice, or of a type that has no name
        return None
    one = {code: int(tiff.values(tags[code])[0]) for code in _SINGLE if code in tags}
    if not _fits(tiff, tags, one, shape[2], dtype):
        return None
    height, width, bands = shape
    planar = one[284] == 2
    down = one[323] if 324 in tags else min(one.get(278, height), height)
    across = one[322] if 324 in tags else width
    each = 1 if planar else bands
    sides = -(-height // down), -(-width // across)
    places = [(k, y, x) for k in range(bands // each) for y in range(sides[0]) for x in range(sides[1])]
    blocks: list[bytes] = []
    for (_, y, _), packed in zip(places, _packed(tiff, tags), strict=True):
        rows = down if 324 in tags else min(down, height - y * down)
        unpacked = _unpacked(packed, one[259], rows * across * each * dtype.itemsize)
        if unpacked is None:
            return None
        blocks.append(unpacked)
    if 324 in tags:
        tiles = np.frombuffer(b"".join(blocks), dtype).reshape(-1, *sides, down, across, each)
        tiles = _summed(tiles) if one.get(317, 1) == _DIFFERENCES else tiles
        planes = tiles.swapaxes(2, 3).reshape(-1, sides[0] * down, sides[1] * across, each)
    else:
        planes = np.frombuffer(b"".join(blocks), dtype).reshape(-1, height, width, each)
        planes = _summed(planes) if one.get(317, 1) == _DIFFERENCES else planes
    cube = planes[:, :height, :width]
    return cube[..., 0].transpose(1, 2, 0) if planar else cube[0]


def _summed(blocks: NDArray[Any]) -> NDArray[Any]:
    """Values, from the differences between neighbours in a row: (..., x, samples)."""
    return np.cumsum(blocks, axis=-2, dtype=blocks.dtype.newbyteorder("="))


def _is_plain(tags: Mapping[int, Tag]) -> bool:
    blocks = ((273, 279, 278), (322, 323, 324, 325))
    return (
        all(code in _PLAIN and tag.kind in _PLAIN[code] for code, tag in tags.items())
        and all(a < b for a, b in pairwise(tags))
        and all(code in tags for code in _NEEDED)
        and all(tags[code].count == 1 for code in _SINGLE if code in tags)
        and sum(all(code in tags for code in kind) for kind in blocks) == 1
        and sum(any(code in tags for code in kind) for kind in blocks) == 1
    )


def _fits(
    tiff: Tiff, tags: Mapping[int, Tag], one: Mapping[int, int], bands: int, dtype: np.dtype[Any]
) -> bool:
    """Values that libtiff takes without a second thought."""
    predictor, photometric = one.get(317, 1), one[262]
    extra = bands - (3 if photometric == 2 else 1)
    return (
        one[259] in _NONE + _DEFLATE
        and one[284] in (1, 2)
        and one.get(254, 0) == 0
        and photometric in (1, 2)
        and extra >= 0
        and (tags[338].count if 338 in tags else 0) == extra
        and (338 not in tags or set(tiff.values(tags[338]).tolist()) <= {0, 1, 2})
        and tags[258].count == bands
        and (339 not in tags or (tags[339].count == bands and int(tiff.values(tags[339])[0]) in (1, 2, 3)))
        and dtype.kind in "uif"
        and dtype.itemsize <= 8
        and (predictor == 1 or (predictor == _DIFFERENCES and one[259] in _DEFLATE and dtype.kind in "ui"))
        and all(one.get(code, 16) % 16 == 0 and one.get(code, 16) > 0 for code in (322, 323))
    )


def _packed(tiff: Tiff, tags: Mapping[int, Tag]) -> Iterator[bytes]:
    at, sizes = (324, 325) if 324 in tags else (273, 279)
    for start, size in zip(tiff.values(tags[at]).tolist(), tiff.values(tags[sizes]).tolist(), strict=True):
        tiff.file.seek(start)
        yield tiff.file.read(size)


def _unpacked(packed: bytes, compression: int, size: int) -> bytes | None:
    if compression in _NONE:
        return packed if len(packed) == size else None
    stream = isal_zlib.decompressobj()
    try:
        unpacked = stream.decompress(packed, size + 1)  # one more than wanted, so that the checksum is read
    except _BROKEN:
        return None
    return unpacked if stream.eof and len(unpacked) == size else None
