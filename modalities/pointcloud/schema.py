"""What a point cloud is made of: the names of its fields and how columns of a file become them."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modalities.base import MAX_DECODED_BYTES, Arrays, BadSample

MAX_POINTS = 50_000_000  # where the size of a file does not prove its count: LAZ, COPC, compressed PCD

# Fields that describe the whole cloud; every other field has one row a point.
GLOBAL = ("crs", "geokeys", "scale", "offset", "point_format", "global_encoding", "viewpoint")

# Columns that make one field, best known spelling first.
VECTORS = {
    "points": (("x", "y", "z"),),
    "colors": (("red", "green", "blue"), ("r", "g", "b"), ("diffuse_red", "diffuse_green", "diffuse_blue")),
    "normals": (("nx", "ny", "nz"), ("normal_x", "normal_y", "normal_z")),
}
LABELS = (
    "classification",
    "labels",
    "label",
    "segmentation",
    "semantic",
    "class",
)  # first that is there counts
_ALIASES = {"i": "intensity", "scalar_intensity": "intensity"}


def field_name(name: str) -> str:
    """Lower case, `[a-z0-9_]+`, never one of the names that mean something else here."""
    clean = re.sub(r"[^a-z0-9]+", "_", name.strip().lower()).strip("_") or "column"
    clean = _ALIASES.get(clean, clean)
    return f"dim_{clean}" if clean in GLOBAL or clean in VECTORS else clean


def assemble(
    columns: Iterable[tuple[str, NDArray[Any]]], *, points: NDArray[Any] | None = None
) -> dict[str, NDArray[Any]]:
    """Named columns (n,) or (n, k) -> fields; x y z become `points`, a colour and a normal triple likewise.

    `points`: made already, from x y z that are not among the columns. Points stay float32 when all three are,
    and become float64 otherwise. A triple of mixed types stays apart.
    """
    named: dict[str, NDArray[Any]] = {}
    for raw_name, column in columns:
        name = base = field_name(raw_name)
        number = 2
        while name in named:
            name, number = f"{base}_{number}", number + 1
        named[name] = column
    fields: dict[str, NDArray[Any]] = {} if points is None else {"points": points}
    for vector, spellings in VECTORS.items():
        for triple in spellings:
            if vector in fields or any(name not in named or named[name].ndim != 1 for name in triple):
                continue
            kinds = {named[name].dtype.newbyteorder("=") for name in triple}
            if vector == "points":
                dtype = np.dtype(np.float32 if kinds == {np.dtype(np.float32)} else np.float64)
            elif len(kinds) == 1:
                dtype = kinds.pop()
            else:
                continue
            fields[vector] = _stack([named.pop(name) for name in triple], dtype)
    if "points" not in fields:
        raise BadSample("unsupported", f"a point cloud needs the columns x, y, z, got {sorted(named)}")
    for name, column in named.items():
        fields[name] = np.ascontiguousarray(column.astype(column.dtype.newbyteorder("="), copy=False))
    return fields


def _stack(columns: list[NDArray[Any]], dtype: np.dtype[Any]) -> NDArray[Any]:
    out = np.empty((len(columns[0]), len(columns)), dtype)
    for i, column in enumerate(columns):
        out[:, i] = column
    return out


def layout(columns: Iterable[tuple[str, np.dtype[Any], int]]) -> tuple[list[str], int]:
    """The fields that columns (name, dtype, count) will become, and the bytes of one decoded point."""
    empty = [(name, np.empty((0, k) if k > 1 else 0, dtype)) for name, dtype, k in columns]
    fields = assemble(empty)
    return list(fields), sum(f.dtype.itemsize * (f.shape[1] if f.ndim == 2 else 1) for f in fields.values())


def check_size(num_points: int, point_bytes: int) -> None:
    """Refuse what does not fit into one sample before anything is allocated."""
    if num_points * point_bytes > MAX_DECODED_BYTES:
        raise BadSample(
            "too-large",
            f"{num_points:,} points of {point_bytes} bytes are more than {MAX_DECODED_BYTES:,} bytes; "
            "cut the cloud into tiles",
        )


def select(arrays: Arrays, index: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """The points that `index` (a mask or row numbers) names, with all their fields."""
    return {name: value if name in GLOBAL else value[index] for name, value in arrays.items()}


def finite(arrays: Arrays) -> dict[str, NDArray[Any]]:
    """Without points that have a NaN or infinite coordinate; BadSample "empty" when none is left."""
    keep = np.asarray(np.isfinite(arrays["points"]).all(axis=1))
    if not keep.any():
        raise BadSample("empty", f"none of {len(keep)} points has finite coordinates; filter such clouds out")
    return dict(arrays) if keep.all() else select(arrays, keep)


def unit_colors(arrays: Arrays) -> NDArray[np.float32] | None:
    """`colors` (n, 3) in [0, 1], whatever the source counted up to; None without colours."""
    if "colors" not in arrays:
        return None
    return _unit(arrays["colors"])


def unit_intensity(arrays: Arrays) -> NDArray[np.float32] | None:
    """`intensity` (n,) in [0, 1]; None without it."""
    return _unit(arrays["intensity"]) if "intensity" in arrays else None


def _unit(values: NDArray[Any]) -> NDArray[np.float32]:
    # The type says little: LAS holds 8-bit values in uint16 and .bin files hold 0..255 as float32.
    top = float(np.nanmax(values, initial=0.0)) if values.size else 0.0
    if values.dtype == np.uint8:
        full = 255.0
    else:
        full = 1.0 if values.dtype.kind == "f" and top <= 1 else 255.0 if top <= 255 else max(65535.0, top)
    unit: NDArray[np.float32] = np.nan_to_num(np.asarray(values, np.float32)) / np.float32(full)
    return unit.clip(0, 1)


def labels(arrays: Arrays) -> NDArray[np.int64] | None:
    """Per-point classes (n,), from the first of LABELS that is there."""
    for name in LABELS:
        if name in arrays and arrays[name].ndim == 1:
            return np.nan_to_num(arrays[name]).astype(np.int64)
    return None


def guess_columns(rows: NDArray[Any]) -> list[str]:
    """Names of the columns of a headerless table (m, k >= 3), from the values of its first rows.

    3: x y z. 4: and intensity. 5: and ring, if whole numbers. 6: and colours (to 255 or 1) or unit normals.
    7: colours and a label, or intensity and colours. 9: colours and normals. Anything else is `column_3`...
    """
    k = rows.shape[1]
    names = ["x", "y", "z"]
    rgb, normal = ["red", "green", "blue"], ["nx", "ny", "nz"]
    if k == 4:
        return [*names, "intensity"]
    if k == 5 and _whole(rows[:, 4]):
        return [*names, "intensity", "ring"]
    if k in (6, 7, 9):
        first, rest = rows[:, 3:6], rows[:, 6:]
        if k == 6 and looks_normal(first):
            return names + normal
        if looks_rgb(first) and (k == 6 or (k == 7 and _whole(rest)) or (k == 9 and looks_normal(rest))):
            return names + rgb + {6: [], 7: ["label"], 9: normal}[k]
        if k == 7 and looks_rgb(rows[:, 4:7]):
            return [*names, "intensity", *rgb]
    return names + [f"column_{i}" for i in range(3, k)]


def _whole(values: NDArray[Any]) -> bool:
    return bool(np.all((values == np.floor(values)) & (values >= 0) & (values < 2**31)))


def looks_rgb(values: NDArray[Any]) -> bool:
    """Colours count whole steps to 255, or lie in [0, 1]."""
    inside = bool(np.all((values >= 0) & (values <= 255)))
    return inside and (_whole(values) or float(values.max(initial=0)) <= 1)


def looks_normal(values: NDArray[Any]) -> bool:
    """Vectors (m, 3) of unit length."""
    return bool(np.all(np.abs(np.linalg.norm(values.astype(np.float64), axis=1) - 1) < 1e-2))


def base_meta(kind: str, num_points: int, fields: list[str], **more: Any) -> Mapping[str, Any]:
    """The facts every format gives; keys a format lacks are None, so that tables have the same columns."""
    meta: dict[str, Any] = {"format": kind, "num_points": num_points, "fields": fields, "bounds": None}
    return meta | {"crs": None, "point_format": None, "is_copc": False, "assumption": None} | more
