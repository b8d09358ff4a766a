"""Tables of numbers as text: XYZ, CSV, TXT with any usual delimiter and, if there is one, a line of names."""

import re
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modalities.base import BadSample, Meta, Raw
from modalities.pointcloud.readers.ply import count_lines
from modalities.pointcloud.schema import assemble, base_meta, check_size, guess_columns, layout

_HEAD_BYTES = 65536
_GUESS_ROWS = 256
_WHOLE = (
    "classification",
    "label",
    "labels",
    "ring",
    "return_number",
    "number_of_returns",
    "semantic",
    "class",
)


@dataclass
class _Layout:
    delimiter: str | None
    skip: int  # bytes before the first row
    names: list[str]
    named: bool  # by the file, not by us


def _split(line: str, delimiter: str | None) -> list[str]:
    return [word.strip().strip('"') for word in line.strip().split(delimiter)]


def _numbers(words: list[str]) -> list[float] | None:
    try:
        return [float(word) for word in words]
    except ValueError:
        return None


def _delimiter(line: str) -> str | None:
    return next((mark for mark in (",", ";", "\t") if mark in line.strip()), None)


def _layout(head: bytes, complete: bool) -> _Layout:
    """Find the names, the delimiter and the first row; BadSample "unknown-format" if there is no table."""
    if b"\0" in head:
        raise BadSample("unknown-format", "zero bytes in a text file; it is binary under the wrong name")
    lines = head.split(b"\n") if complete else head.split(b"\n")[:-1]
    skip, names, rows = 0, None, list[list[float]]()
    delimiter: str | None = None
    for i, line in enumerate(lines[: _GUESS_ROWS + 64]):
        text = line.decode("utf-8-sig" if i == 0 else "utf-8", "replace")
        bare = re.sub(r"^\s*(#|//)\s*", "", text).strip()
        values = _numbers(_split(text, _delimiter(text)))
        if not rows:
            if values is None or len(values) < 3:
                words = [word.lower() for word in _split(bare, _delimiter(bare))] if bare else []
                comment = bare != text.strip()
                count_line = values is not None and len(values) == 1  # .pts begins with the number of points
                if not (comment or count_line or not bare or {"x", "y", "z"} <= set(words)):
                    break
                names = words if {"x", "y", "z"} <= set(words) else names
                skip += len(line) + 1
                continue
            delimiter = _delimiter(text)
        if values is not None and text.strip():
            rows.append(values)
    if not rows:
        raise BadSample(
            "unknown-format", "no line of three numbers or more after names with x, y, z: no cloud"
        )
    width = len(rows[0])
    if any(len(row) != width for row in rows):
        raise BadSample("corrupt", f"rows with {sorted({len(row) for row in rows})} columns in one table")
    if names is not None and len(names) != width:
        raise BadSample("corrupt", f"{len(names)} column names for {width} columns")
    guessed = guess_columns(np.array(rows[:_GUESS_ROWS]))
    return _Layout(delimiter, skip, names or guessed, names is not None)


def inspect(raw: Raw) -> Meta:
    """Look at the first rows and count the lines."""
    head = raw.head(_HEAD_BYTES)
    found = _layout(head, complete=raw.size <= _HEAD_BYTES)
    num_points = count_lines(raw, found.skip)
    fields, point_bytes = layout((name, np.dtype(np.float64), 1) for name in found.names)
    assumption = None if found.named else f"columns are {' '.join(found.names)}"
    return base_meta("text", num_points, fields, point_bytes=point_bytes, assumption=assumption)


def read(data: bytes) -> dict[str, NDArray[Any]]:
    """Points in float64; colours and class numbers as integers when every value is one."""
    meta = inspect(Raw(name="x.xyz", content=data))
    check_size(meta["num_points"], meta["point_bytes"])
    found = _layout(data[:_HEAD_BYTES], complete=len(data) <= _HEAD_BYTES)
    body = BytesIO(data[found.skip :])
    table = np.loadtxt(body, np.float64, delimiter=found.delimiter, comments=None, ndmin=2, encoding="utf-8")
    want = (meta["num_points"], len(found.names))
    if table.shape != want:
        raise BadSample("corrupt", f"a table of shape {table.shape}, wanted {want}")
    arrays = assemble((name, table[:, i]) for i, name in enumerate(found.names))
    for name, values in arrays.items():
        if name == "colors":
            arrays[name] = _whole(values, (np.uint8, np.uint16))
        elif name in _WHOLE:
            arrays[name] = _whole(values, (np.int64,))
    return arrays


def _whole(values: NDArray[Any], kinds: tuple[type[np.integer[Any]], ...]) -> NDArray[Any]:
    for kind in kinds:
        limit = np.iinfo(kind)
        if np.all((values == np.floor(values)) & (values >= limit.min) & (values <= min(limit.max, 2**53))):
            # A column of 0 and 1 as colours is the unit cube, not almost black.
            if kind is np.uint8 and values.max(initial=0) <= 1:
                return values
            return values.astype(kind)
    return values
