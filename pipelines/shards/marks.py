"""What a survey says of each sample, and the few bytes of it that a plan is made from."""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatch
from functools import lru_cache
from typing import Any

import blake3
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

SURVEY = pa.schema(
    [
        ("status", pa.string()),  # ok, filtered, quarantined; the plan adds duplicate
        ("name", pa.string()),
        ("entry", pa.string()),
        ("suffix", pa.string()),
        ("spec", pa.string()),
        ("num_bytes", pa.int64()),
        ("content", pa.string()),
        ("meta", pa.string()),
        ("label", pa.string()),
        ("caption", pa.string()),
        ("group", pa.string()),
        ("quality", pa.map_(pa.string(), pa.float64())),
        ("fingerprint", pa.uint64()),
        ("arrays", pa.string()),  # BLAKE3 of what it decodes to, where duplicates are told by that
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("head", pa.binary()),
    ]
)
MARKS = np.dtype(
    [
        ("place", "<u8"),  # in the shuffled order
        ("draw", "<u8"),  # of the split: the same for all samples of a scene
        ("key", "<u8"),
        ("name", "<u8", 2),
        ("same", "<u8", 2),  # the object's bytes, or what the sample decodes to
        ("piece", "<u8"),  # of which object; duplicates are so in both
    ]
)
MARKED = pa.schema([*SURVEY, ("key", pa.string()), ("marks", pa.binary(MARKS.itemsize))])
MAX_KEY = 150


def marked(
    survey: pa.Table, *, settings: Mapping[str, Any], patterns: Sequence[str], alone: bool = False
) -> pa.Table:
    """The survey with keys and marks, (n,) as MARKED. Whoever surveys does it: a plan of millions adds up.

    `alone`: no name or content will be compared with another, so that their marks are zeros.
    """
    columns = [survey[name].to_pylist() for name in ("name", "suffix", "group", "content", "arrays")]
    seed, by = settings["seed"], settings["split"]["by"]
    by_arrays = settings["dedup"] == "content"
    keys: list[str] = []
    marks: list[bytes] = []  # the fields of MARKS, row by row
    whole, hashed = _hashed(8, ""), blake3.blake3
    for name, suffix, group, content, arrays in zip(*columns, strict=True):
        suffix = suffix or ""  # of a row that was quarantined
        keys.append(key := make_key(name, suffix, patterns))
        told = arrays if by_arrays and arrays else None
        marks += (
            hashed(f"{seed}\0{name}\0{suffix}".encode()).digest(8),
            hashed(f"{seed}\0split\0{undivided(by, group, key)}".encode()).digest(8),
            hashed(f"key\0{key}".encode()).digest(8),
        )
        marks += (
            (bytes(40),)
            if alone
            else (
                hashed(f"name\0{name}".encode()).digest(16),
                hashed(f"same\0{told or content}".encode()).digest(16),
                bytes(8) if told else _hashed(8, suffix) if suffix else whole,
            )
        )
    data = pa.py_buffer(b"".join(marks))
    packed = pa.Array.from_buffers(pa.binary(MARKS.itemsize), len(keys), [None, data])
    columns = [*(survey[name] for name in SURVEY.names), pa.array(keys, pa.string()), packed]
    return pa.table(columns, schema=MARKED)


def marks_of(table: pa.Table) -> NDArray[Any]:
    """The column `marks` as a structured array, (n,) of MARKS."""
    found = [
        np.frombuffer(chunk.buffers()[1], MARKS, len(chunk), chunk.offset * MARKS.itemsize)
        for chunk in table["marks"].chunks
        if len(chunk)
    ]
    return np.concatenate(found) if found else np.empty(0, MARKS)


def undivided(by: str, group: str, key: str) -> str:
    """What goes to a split as a whole: a piece, a scene, or all scenes of a folder.

    >>> undivided("folder", "flights/line3/strip1", "flights/line3/strip1_y0")
    'flights/line3'
    """
    return key if by == "piece" else group.rpartition("/")[0] if by == "folder" else group


def draw_of(seed: int, group: str) -> int:
    """The 64-bit hash that decides the split of a scene."""
    return hash64(seed, "split", group)


def hash64(*values: object) -> int:
    """64 bits of BLAKE3."""
    return int.from_bytes(_hashed(8, *values), "little")


def _hashed(size: int, *values: object) -> bytes:
    digest: bytes = blake3.blake3("\0".join(map(str, values)).encode()).digest(size)
    return digest


def hash128(*values: object) -> tuple[int, int]:
    """128 bits of BLAKE3: no two different texts in a dataset have the same."""
    whole = _hashed(16, *values)
    return int.from_bytes(whole[:8], "little"), int.from_bytes(whole[8:], "little")


def make_key(name: str, suffix: str, patterns: Sequence[str]) -> str:
    """A sample's key: the source's name without its extension, in characters every tar reader agrees on.

    >>> make_key("cats/Tom Cat.v2.jpg", "", ["*.jpg"]), make_key("scene.zarr/", "y0", ["*.zarr/"])
    ('cats/Tom_Cat_v2', 'scene_y0')
    """
    if (plain := _PLAIN.fullmatch(name)) and _ends_plainly(plain[2].lower(), tuple(patterns)):
        return f"{plain[1]}_{suffix}" if suffix else plain[1]
    path = unicodedata.normalize("NFKD", name)
    if in_tar := ".tar/" in path:
        path = path.rpartition(".tar/")[2]
    *folders, last = path.rstrip("/").split("/")
    named = last + "/" * path.endswith("/")
    if last.lower() in patterns and folders:  # a pattern without a star: the folder is the object
        stem = folders.pop()
    elif in_tar:
        stem = last.partition(".")[0]  # WebDataset's rule
    else:
        ends = [p.strip("*") for p in patterns if p.startswith("*.") and fnmatch(named.lower(), p.lower())]
        stem = named[: -max(map(len, ends))] if ends else last.partition(".")[0]
    parts = [
        re.sub(r"[^A-Za-z0-9_-]+", "_", part) for part in [*folders, stem] if part not in ("", ".", "..")
    ]
    key = "/".join(parts)
    if not key or len(key) > MAX_KEY or any(len(part) > 60 for part in parts):
        key = f"{key[-40:].strip('/')}-{name_tag(name)}".replace("/", "_")
    return f"{key}_{suffix}" if suffix else key


# A path that is a key already: nothing to replace, no part too long, one dot.
_PLAIN = re.compile(r"(?=[^.]{1,150}\.)((?:[A-Za-z0-9_-]{1,60}/)*[A-Za-z0-9_-]{1,60})\.([A-Za-z0-9]+)")


@lru_cache(maxsize=1024)
def _ends_plainly(extension: str, patterns: tuple[str, ...]) -> bool:
    """Whether a file of one dot with this extension, in lower case, goes by nothing else in the patterns."""
    whole = any("*" not in p and p.rpartition(".")[2] == extension for p in patterns)
    return not whole and any(p.lower() == f"*.{extension}" for p in patterns)


def name_tag(name: str) -> str:
    """Ten hex digits that tell a name from others that give the same key."""
    tag: str = blake3.blake3(f"name\0{name}".encode()).hexdigest()[:10]
    return tag


def suffix_of(key: str, name: str, patterns: Iterable[str]) -> str | None:
    """The piece that a sample is of its source, by `make_key`; None where it made keys in another way once.

    >>> suffix_of("scene_y0", "scene.zarr/", ["*.zarr/"])
    'y0'
    """
    whole = make_key(name, "", tuple(patterns))
    suffix = key.removeprefix(whole).removesuffix(f"-{name_tag(name)}").removeprefix("_")  # it may have a tag
    return suffix if key.startswith(whole) else None
