"""Tables without names: `.bin` of float32 rows as KITTI, nuScenes, ScanNet and SUN RGB-D have, and `.npy`."""

import ast
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modalities.base import BadSample, Meta, Raw
from modalities.pointcloud.schema import assemble, base_meta, check_size, guess_columns, layout, looks_rgb

# kind -> columns. "kitti" is also the default for rows of four whose intensity is not in [0, 1].
BINARY = {
    "kitti": ("x", "y", "z", "intensity"),
    "nuscenes": ("x", "y", "z", "intensity", "ring"),
    "xyzrgb": ("x", "y", "z", "red", "green", "blue"),
}
_GUESS_ROWS = 4096
_GUESS_BYTES = 4 * _GUESS_ROWS * 6
_FARTHEST = 1e6  # metres; more is not a scanner's own frame but another type read as float32


def _plausible(rows: NDArray[np.float32]) -> bool:
    return bool(np.isfinite(rows).all() and np.abs(rows[:, :3]).max() < _FARTHEST)


def _matches(kind: str, rows: NDArray[np.float32]) -> bool:
    """Whether the values after x y z are what `kind` stores there."""
    if not _plausible(rows):
        return False
    if kind == "kitti":
        return bool(np.all((rows[:, 3] >= 0) & (rows[:, 3] <= 1)))
    if kind == "nuscenes":
        ring = rows[:, 4]
        return bool(np.all((rows[:, 3] >= 0) & (ring == np.floor(ring)) & (ring >= 0) & (ring < 128)))
    return looks_rgb(rows[:, 3:6])


def decide(head: bytes, size: int, nuscenes: bool) -> tuple[str, str]:
    """Which of BINARY a headerless file is and why, from its size and first bytes; `nuscenes`: says its name.

    What the size divides by and the values allow wins. Several, or rows of four with other intensities (0 to
    255, as some converters write): "kitti".
    """
    if size % 4:
        raise BadSample("truncated", f"{size:,} bytes are not a whole number of float32 values")
    values = np.frombuffer(head[: len(head) // 4 * 4], "<f4")
    kinds = ["nuscenes"] if nuscenes else list(BINARY)
    tables = {kind: _rows(values, len(BINARY[kind])) for kind in kinds}
    fitting = [kind for kind in kinds if size % (4 * len(BINARY[kind])) == 0]
    matching = [kind for kind in kinds if len(tables[kind]) and _matches(kind, tables[kind])]
    whole = [kind for kind in fitting if kind in matching]
    if len(whole) == 1:
        return whole[0], f"rows of {' '.join(BINARY[whole[0]])}: size and values fit nothing else"
    if whole:
        kind = "kitti" if "kitti" in whole else whole[0]
        return kind, f"rows of {' '.join(BINARY[kind])}: the default where {' and '.join(whole)} fit"
    if matching or not fitting:
        raise BadSample(
            "truncated", f"{size // 4:,} values are no whole number of rows of {matching or kinds}"
        )
    if "kitti" in fitting and _plausible(rows := tables["kitti"]) and rows[:, 3].min() >= 0:
        return "kitti", "rows of x y z intensity: the default, intensity not in [0, 1]"
    raise BadSample("unknown-format", f"the values are not those of {fitting}; rename or convert the file")


def _rows(values: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    return values[: len(values) // width * width].reshape(-1, width)[:_GUESS_ROWS]


def inspect_bin(raw: Raw) -> Meta:
    """Decide the columns; meta's `assumption` says how."""
    kind, why = decide(raw.head(_GUESS_BYTES), raw.size, raw.filename.endswith(".pcd.bin"))
    columns = BINARY[kind]
    fields, point_bytes = layout((name, np.dtype(np.float32), 1) for name in columns)
    return base_meta(kind, raw.size // (4 * len(columns)), fields, assumption=why, point_bytes=point_bytes)


def read_bin(data: bytes, *, nuscenes: bool) -> dict[str, NDArray[Any]]:
    """All columns as float32, the way they are stored."""
    kind, _ = decide(data[:_GUESS_BYTES], len(data), nuscenes)
    rows = np.frombuffer(data, "<f4").reshape(-1, len(BINARY[kind]))
    check_size(len(rows), 4 * rows.shape[1])
    return assemble((name, rows[:, i]) for i, name in enumerate(BINARY[kind]))


def npy_header(head: bytes, size: int) -> tuple[np.dtype[Any], tuple[int, ...], bool, int]:
    """(dtype, shape, fortran order, bytes before the data) of an `.npy` whose data fill the file exactly."""
    if head[:6] != b"\x93NUMPY" or len(head) < 12:
        raise BadSample("corrupt", "an .npy file begins with \\x93NUMPY and a header")
    wide = head[6] >= 2
    length = int.from_bytes(head[8 : 12 if wide else 10], "little")
    start = (12 if wide else 10) + length
    if head[6] not in (1, 2, 3) or length > 16384:
        raise BadSample("corrupt", f".npy version {head[6]} with a header of {length:,} bytes")
    if start > len(head):
        raise BadSample("truncated", f"the .npy header ends at byte {start:,}, the file at {size:,}")
    try:
        header = ast.literal_eval(
            head[start - length : start].decode("utf-8" if head[6] == 3 else "latin-1").strip()
        )
        dtype, shape, fortran = np.dtype(header["descr"]), header["shape"], header["fortran_order"]
        if not isinstance(fortran, bool) or len(header) != 3 or not isinstance(shape, tuple):
            raise ValueError(f"a header with {sorted(header)}")
        if any(type(n) is not int or n < 0 for n in shape):
            raise ValueError(f"shape {shape}")
    except (ValueError, TypeError, KeyError, SyntaxError, MemoryError, RecursionError) as e:
        raise BadSample("corrupt", f"the .npy header cannot be read: {str(e)[:200]}") from e
    if dtype.hasobject:
        raise BadSample("unsafe", "an .npy of Python objects is a pickle; store numbers")
    need = dtype.itemsize
    for n in shape:
        need *= n
    if need != size - start:
        reason = "truncated" if need > size - start else "corrupt"
        raise BadSample(reason, f"the .npy header promises {need:,} bytes, {size - start:,} follow")
    return dtype, shape, fortran, start


def read_array(data: bytes) -> NDArray[Any]:
    """One `.npy`, no pickle; a copy in native byte order."""
    dtype, shape, fortran, start = npy_header(data[:32768], len(data))
    count = 1
    for n in shape:
        count *= n
    if not dtype.itemsize or not count:
        return np.empty(shape, dtype)
    flat = np.frombuffer(data, dtype, count, start)
    return np.array(flat.reshape(shape, order="F" if fortran else "C"), dtype.newbyteorder("="), order="C")


def _npy_columns(raw: Raw) -> tuple[list[tuple[str, np.dtype[Any], int]], int]:
    dtype, shape, fortran, start = npy_header(raw.head(32768), raw.size)
    if dtype.names and len(shape) == 1:
        columns = [(name, dtype[name].base, int(np.prod(dtype[name].shape))) for name in dtype.names]
        if any(kind.kind not in "iufb" or dtype[name].ndim > 1 for name, kind, _ in columns):
            raise BadSample("unsupported", f"an .npy with records of {dtype}; wanted plain numbers")
        return columns, shape[0]
    if len(shape) != 2 or not 3 <= shape[1] <= 256 or dtype.kind not in "iuf":
        raise BadSample(
            "unsupported", f"an .npy of {dtype} {shape}; wanted numbers (n, 3 to 256) or records x y z"
        )
    if not shape[0]:
        return [(name, dtype, 1) for name in ("x", "y", "z")], 0
    with raw.open() as file:
        file.seek(start)
        rows = min(256, shape[0])
        if fortran:
            rows = shape[0] if raw.size < 1 << 26 else 0
            head = (
                np.frombuffer(file.read(raw.size - start) if rows else b"", dtype)
                .reshape(shape[1], -1)
                .T[:256]
            )
        else:
            head = np.frombuffer(file.read(rows * shape[1] * dtype.itemsize), dtype).reshape(-1, shape[1])
    return [(name, dtype, 1) for name in guess_columns(head)], shape[0]


def inspect_npy(raw: Raw) -> Meta:
    """A plain table (n, 3 or more), or records with x y z."""
    columns, num_points = _npy_columns(raw)
    if not num_points:
        raise BadSample("empty", "the .npy has no rows")
    fields, point_bytes = layout(columns)
    assumption = f"columns are {' '.join(name for name, _, _ in columns)}"
    return base_meta("npy", num_points, fields, point_bytes=point_bytes, assumption=assumption)


def read_npy(data: bytes) -> dict[str, NDArray[Any]]:
    """The columns as they are stored."""
    columns, num_points = _npy_columns(Raw(name="x.npy", content=data))
    check_size(num_points, layout(columns)[1])
    table = read_array(data)
    if table.dtype.names:
        return assemble((name, table[name]) for name in table.dtype.names)
    return assemble((name, table[:, i]) for i, (name, _, _) in enumerate(columns))
