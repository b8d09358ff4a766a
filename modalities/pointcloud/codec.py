"""Point clouds in shards: source bytes as they are, or arrays packed without loss.

`encode` makes one of two things. Fields that came from LAS and still lie on its grid become one "laz", with
the same scale, offset, CRS and dimensions. All else becomes one .npy a field: "points.npy", "crs.npy"...
`decode` reads those and every source format, whatever else (labels, captions) lies in the sample.
"""

from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modalities.base import Arrays, BadSample, Files, Meta, Raw
from modalities.pointcloud import laz
from modalities.pointcloud.guard import guarded
from modalities.pointcloud.readers import fields, las, pcd, ply, table, text
from modalities.pointcloud.schema import GLOBAL

# Canonical extension of each format meta names. txt is left to captions, hence xyz for every text table.
EXTENSIONS = {
    "ply": "ply", "pcd": "pcd", "las": "las", "laz": "laz", "copc": "copc.laz", "text": "xyz", "npy": "npy",
    "kitti": "bin", "xyzrgb": "bin", "nuscenes": "pcd.bin",
}  # fmt: skip
_READERS: dict[str, Callable[[bytes], dict[str, NDArray[Any]]]] = {
    "ply": ply.read,
    "pcd": pcd.read,
    "las": las.read,
    "laz": las.read,
    "copc.laz": las.read,
    "xyz": text.read,
    "npy": table.read_npy,
    "pcd.bin": lambda data: table.read_bin(data, nuscenes=True),
    "bin": lambda data: table.read_bin(data, nuscenes=False),
}


def pack(raw: Raw, meta: Meta) -> Files:
    """The bytes as they are."""
    if meta["format"] == "fields":
        return fields.pack(raw)
    return {EXTENSIONS[meta["format"]]: raw.read()}


def decode(files: Files) -> Arrays:
    """`points` (n, 3) and every other stored field; GLOBAL names the fields that are not one row a point."""
    for extension, read in _READERS.items():
        if extension in files:
            with guarded(f"the .{extension} file"):
                return read(files[extension])
    if "points.npy" in files:
        with guarded("the .npy files"):
            return fields.read(files)
    raise BadSample(
        "unknown-format", f"no point cloud among {sorted(files)}; wanted one of {sorted(_READERS)}"
    )


def encode(arrays: Arrays) -> Files:
    """Pack without loss; the same arrays give the same bytes."""
    points = arrays["points"]
    if not points.size:
        raise BadSample("empty", "no points are left to pack; drop such samples")
    if points.ndim != 2 or points.shape[1] != 3 or points.dtype not in (np.float32, np.float64):
        raise BadSample(
            "unsupported", f"points: wanted float32 or float64 (n, 3), got {points.dtype} {points.shape}"
        )
    for name, values in arrays.items():
        if name not in GLOBAL and values.shape[:1] != points.shape[:1]:
            raise BadSample(
                "unsupported", f"{name} has shape {values.shape}, wanted one row a point: {points.shape}"
            )
        if values.dtype.hasobject:
            raise BadSample("unsafe", f"{name} holds Python objects; store numbers")
    packed = laz.write(arrays)
    if packed is not None and same(las.read(packed), arrays):
        return {"laz": packed}
    return {f"{name}.npy": npy_bytes(values) for name, values in sorted(arrays.items())}


def npy_bytes(values: NDArray[Any]) -> bytes:
    """An array as the bytes of an .npy file."""
    np.lib.format.write_array(
        out := BytesIO(), np.ascontiguousarray(values) if values.ndim else values, (1, 0), False
    )
    return out.getvalue()


def same(one: Arrays, other: Arrays) -> bool:
    """Whether two clouds are equal bit for bit, types and names included."""
    return one.keys() == other.keys() and all(
        a.dtype == other[name].dtype and a.shape == other[name].shape and a.tobytes() == other[name].tobytes()
        for name, a in one.items()
    )
