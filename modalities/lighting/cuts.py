"""A long sequence as many short ones: windows of k frames, each with its lights."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modalities.base import Arrays, Cut, Files, Meta, Piece, Raw
from modalities.lighting.codec import decode, encode
from modalities.lighting.probe import inspect, members, pack

PER_FRAME = ("frames", "lights", "intensity", "times", "environment")  # first axis is t


def plan(raw: Raw, meta: Meta, *, window: int = 1, stride: int | None = None) -> Sequence[Piece]:
    """Windows of `window` frames, `stride` (default `window`) apart; a shorter rest is left."""
    stride = window if stride is None else stride
    if window < 1 or stride < 1:
        raise ValueError(f"window and stride must be at least 1, got {window} and {stride}")
    layout = inspect(raw)
    t, height, width = layout.shape
    frame_bytes = height * width * 3 * layout.dtype.itemsize
    beside = sum(f.size for name, f in members(raw).items() if name not in {n.lower() for n in layout.frames})
    return [
        Piece(
            suffix=f"f{start:05d}",
            spec={"start": start, "stop": start + window},
            num_bytes=window * frame_bytes + beside,
        )
        for start in range(0, t - window + 1, stride)
    ]


def extract(raw: Raw, meta: Meta, spec: Meta, *, window: int = 1, stride: int | None = None) -> Files:
    """Frames [start, stop): of a stereo folder the files as they are, else written anew without loss."""
    layout = inspect(raw)
    start, stop = int(spec["start"]), int(spec["stop"])
    files = pack(raw, meta)
    if raw.filename == "lights.npy":
        others = {name.lower() for i, name in enumerate(layout.frames) if not start <= i < stop}
        return {name: data for name, data in files.items() if name not in others}
    return encode(select(decode(files), slice(start, stop)))


def select(arrays: Arrays, frames: slice | NDArray[np.intp]) -> Arrays:
    """Some of the frames with all that belongs to them; camera and scene still speak of all."""
    out: dict[str, NDArray[Any]] = dict(arrays)
    for key in PER_FRAME:
        if key in arrays:
            out[key] = arrays[key][frames]
    for key, ndim in (("normals", 4), ("mask", 3)):
        if key in arrays and arrays[key].ndim == ndim:
            out[key] = arrays[key][frames]
    return out


CUTS = {"frames": Cut(plan=plan, extract=extract)}
