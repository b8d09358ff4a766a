"""One `.npy` a field: `points.npy` (n, 3) and what lies beside it. `encode` writes these too."""

import re
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from modalities.base import BadSample, Files, Meta, Raw
from modalities.pointcloud.readers.table import npy_header, read_array
from modalities.pointcloud.schema import GLOBAL, base_meta, check_size

PRIMARY = "points.npy"
HEAD_BYTES = 32768  # a header is shorter


def files_of(raw: Raw) -> Mapping[str, Raw]:
    """Field -> its file, of a `points.npy` that is one field; empty for a table, which stands alone."""
    beside = sorted(path for path in raw.companions if path.lower().endswith(".npy"))
    if raw.filename != PRIMARY or not (beside or _is_points(raw)):
        return {}
    found = {"points": raw}
    for path in beside:
        name = path.lower().removesuffix(".npy")
        if not re.fullmatch(r"[a-z0-9_]+", name) or name in found:
            raise BadSample(
                "unsupported", f"{path!r} beside {raw.name}: a field is called a-z, 0-9 and _, once"
            )
        found[name] = raw.companion(path)
    return found


def _is_points(raw: Raw) -> bool:
    dtype, shape, _, _ = npy_header(raw.head(HEAD_BYTES), raw.size)
    return len(shape) == 2 and shape[1] == 3 and dtype.kind == "f"


def inspect(raw: Raw) -> Meta:
    """Header facts of the fields together."""
    count, names, _ = _check(
        {name: (file.head(HEAD_BYTES), file.size) for name, file in files_of(raw).items()}
    )
    return base_meta("fields", count, names)


def pack(raw: Raw) -> Files:
    """The bytes as they are."""
    return {f"{name}.npy": file.read() for name, file in files_of(raw).items()}


def read(files: Files) -> dict[str, NDArray[np.generic]]:
    """Every `.npy` as a field."""
    members = {name[:-4]: data for name, data in files.items() if name.endswith(".npy")}
    count, _, num_bytes = _check({name: (data[:HEAD_BYTES], len(data)) for name, data in members.items()})
    check_size(count, -(-num_bytes // count))
    return {name: read_array(data) for name, data in members.items()}


def _check(heads: Mapping[str, tuple[bytes, int]]) -> tuple[int, list[str], int]:
    """Points, fields with a row a point, and bytes of all files; BadSample where they do not fit together."""
    headers = {name: npy_header(head, size) for name, (head, size) in heads.items()}
    shape = headers["points"][1]
    if len(shape) != 2 or shape[1] != 3 or headers["points"][0].kind != "f":
        raise BadSample(
            "corrupt",
            f"points.npy of {headers['points'][0]} {shape} with {sorted(headers.keys() - {'points'})} beside "
            "it, wanted floats (n, 3); a table of its own needs another name",
        )
    if not shape[0]:
        raise BadSample("empty", "points.npy has no points")
    for name, (_, other, _, _) in headers.items():
        if name not in GLOBAL and other[:1] != shape[:1]:
            raise BadSample("corrupt", f"{name}.npy has shape {other}, points.npy {shape}: one row a point")
    names = ["points", *sorted(name for name in headers if name not in GLOBAL and name != "points")]
    return shape[0], names, sum(size for _, size in heads.values())
