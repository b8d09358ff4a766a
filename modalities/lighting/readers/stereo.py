"""Photometric stereo folders: lights.npy, frames numbered by its rows, perhaps gt_normal.npy and mask.png."""

import re

import numpy as np

from modalities.base import BadSample, Raw
from modalities.lighting.readers import headers, npy
from modalities.lighting.schema import MAX_FRAMES, Layout

FRAME = re.compile(r".*_([0-9]{1,6})\.(npy|png)", re.IGNORECASE)


def read(raw: Raw) -> Layout:
    """Layout of the folder around lights.npy; frames in the order of their numbers."""
    header = npy.read_header(raw)
    if len(header.shape) != 2 or header.shape[1] != 3 or header.dtype.kind != "f":
        raise BadSample(
            "bad-field", f"{raw.name} must be (n, 3) floats, got {header.shape} of {header.dtype}"
        )
    if header.shape[0] > MAX_FRAMES:
        raise BadSample("too-large", f"{raw.name} has {header.shape[0]:,} lights, more than {MAX_FRAMES:,}")
    table = npy.read(raw).astype(np.float64)
    headers.check_lights(raw.name, table)
    rows: dict[int, str] = {}
    for name in sorted(raw.companions):
        if match := FRAME.fullmatch(name):
            row = int(match[1])
            if row in rows:
                raise BadSample("light-count", f"{rows[row]} and {name} both claim row {row} of {raw.name}")
            rows[row] = name
    if not rows:
        raise BadSample(
            "no-frames", f"nothing like name_000.npy beside {raw.name}; there are {sorted(raw.companions)}"
        )
    if max(rows) >= len(table):
        raise BadSample(
            "light-count", f"{rows[max(rows)]} wants row {max(rows)} of {raw.name}, which has {len(table)}"
        )
    order = sorted(rows)
    names = tuple(rows[row] for row in order)
    shape, dtype = headers.frames(raw, names, whole=False, lights=len(names))
    normals, mask = (
        next((n for n in raw.companions if n.lower() == w), None) for w in ("gt_normal.npy", "mask.png")
    )
    headers.check_normals(raw, normals, shape)
    headers.check_mask(raw, mask, shape)
    return Layout(
        frames=names,
        whole=False,
        shape=shape,
        dtype=dtype,
        lights=table[order],
        intensity=np.ones((len(names), 3)),
        normals=normals,
        mask=mask,
    )
