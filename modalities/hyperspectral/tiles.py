"""A scene cut into tiles: planned from its header, each read on its own."""

import json
from collections.abc import Sequence

import numpy as np

from modalities.base import BadSample, Cut, Files, Meta, Piece, Raw
from modalities.hyperspectral.codec import as_labels, encode, opened
from modalities.hyperspectral.quality import valid_pixels
from modalities.hyperspectral.schema import Window

_OVERHEAD = 4096  # bytes of a tile's files beside its cube


def plan(
    raw: Raw, meta: Meta, *, size: int = 256, overlap: int = 0, edge: str = "keep", min_valid: float = 0.0
) -> Sequence[Piece]:
    """Tiles of `size` pixels, neighbours sharing `overlap`, row by row; nothing but the header is read.

    edge: "keep" leaves the last row and column smaller, "drop" leaves them out. min_valid: `extract` refuses
    a tile with a smaller share of pixels that hold data, as BadSample "nodata".
    """
    if size < 1 or not 0 <= overlap < size or edge not in ("keep", "drop") or not 0 <= min_valid <= 1:
        wanted = "size >= 1, 0 <= overlap < size, edge keep or drop, min_valid in [0, 1]"
        raise ValueError(f"want {wanted}; got {size}, {overlap}, {edge!r}, {min_valid}")
    if meta["width"] is None:  # HDF5 hides its sizes from a plain header check
        with opened(raw) as scene:
            meta = scene.facts.meta()
    itemsize = np.dtype(meta["dtype"]).itemsize
    rows = _starts(meta["height"], size, overlap, edge)
    columns = _starts(meta["width"], size, overlap, edge)
    pieces = []
    for y in rows:
        for x in columns:
            height, width = min(size, meta["height"] - y), min(size, meta["width"] - x)
            spec = {"y": y, "x": x, "height": height, "width": width}
            num_bytes = height * width * meta["bands"] * itemsize + _OVERHEAD
            pieces.append(Piece(suffix=f"y{y:05d}-x{x:05d}", spec=spec, num_bytes=num_bytes))
    return pieces


def _starts(length: int, size: int, overlap: int, edge: str) -> list[int]:
    step = size - overlap
    starts = [start for start in range(0, length, step) if start == 0 or start + overlap < length]
    return [start for start in starts if edge == "keep" or start + size <= length]


def extract(
    raw: Raw,
    meta: Meta,
    spec: Meta,
    *,
    size: int = 256,
    overlap: int = 0,
    edge: str = "keep",
    min_valid: float = 0.0,
) -> Files:
    """One tile in our container, its affine shifted, and `tile.json`: where in which scene it lay."""
    window = Window(spec["y"], spec["x"], spec["height"], spec["width"])
    with opened(raw) as scene:
        arrays = scene.arrays(window)
        height, width, _ = scene.facts.shape
    if "segmentation" in arrays:
        arrays["segmentation"] = as_labels(arrays["segmentation"])
    share = float(valid_pixels(arrays).mean())
    if share < min_valid:
        raise BadSample("nodata", f"{share:.1%} of the pixels hold data, want at least {min_valid:.1%}")
    about = {**window._asdict(), "scene": raw.name, "scene_height": height, "scene_width": width}
    return {**encode(arrays), "tile.json": json.dumps(about, sort_keys=True).encode()}


TILES = Cut(plan=plan, extract=extract)
