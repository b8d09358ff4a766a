"""Zarr 2 and 3 in a local folder: our check of every array's metadata first, then the zarr library."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modalities.base import BadSample, Meta, Raw
from modalities.hyperspectral.readers import _choose
from modalities.hyperspectral.schema import Scene
from modalities.libraries import load

SUFFIXES = (".zarr",)
CODECS_2 = (
    "zlib",
    "gzip",
    "bz2",
    "lzma",
    "zstd",
    "blosc",
    "lz4",
    "shuffle",
    "delta",
    "crc32",
    "crc32c",
    "adler32",
)
CODECS_3 = ("bytes", "transpose", "gzip", "zstd", "blosc", "crc32c", "sharding_indexed")
MAX_METADATA = 2**22
MAX_CHUNK = 2**28
MAX_ARRAYS = 1024
_MARKS = (".zarray", ".zgroup", "zarr.json")
_PLAIN = np.typecodes["AllInteger"] + np.typecodes["Float"] + "FD?"


def matches(head: bytes) -> bool:
    """A folder has no first bytes."""
    return False


def _json(raw: Raw, name: str) -> dict[str, Any]:
    if name not in raw.companions:
        return {}
    file = raw.companion(name)
    if file.size > MAX_METADATA:
        raise BadSample("too-large", f"{name} has {file.size:,} bytes; want at most {MAX_METADATA:,}")
    value = json.loads(file.read())
    if not isinstance(value, dict):
        raise BadSample("corrupt", f"{name}: want a JSON object, got {type(value).__name__}")
    return value


def _nodes(raw: Raw) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    """{path: metadata and attributes} of arrays, {path: attributes} of groups; the root is ""."""
    arrays, groups = {}, {}
    if any(".." in name.split("/") or name.startswith("/") for name in raw.companions):
        raise BadSample("unsafe", "a Zarr's files must be inside its folder")
    for name in sorted(raw.companions):
        folder, _, last = name.rpartition("/")
        at = f"{folder}/" if folder else ""
        if last not in _MARKS:
            continue
        about = _json(raw, name)
        attributes = about.get("attributes", {}) if last == "zarr.json" else _json(raw, f"{at}.zattrs")
        plain = {
            str(key): _choose.plain(value) for key, value in attributes.items() if not isinstance(value, dict)
        }
        if last == ".zarray" or about.get("node_type") == "array":
            arrays[folder] = {**about, "attributes": attributes, "plain": plain}
        else:
            groups[f"/{folder}" if folder else ""] = plain
    if not arrays or len(arrays) > MAX_ARRAYS:
        reason = "too-large" if arrays else "unknown-format"
        raise BadSample(reason, f"want 1 to {MAX_ARRAYS} arrays in {raw.name}, got {len(arrays)}")
    return arrays, groups


def _codecs(about: Mapping[str, Any]) -> list[str]:
    """Names of all codecs of an array, those inside shards too."""
    if about.get("zarr_format") == 2:
        listed = [about.get("compressor"), *(about.get("filters") or [])]
        return [str(codec.get("id")) for codec in listed if codec]
    found, waiting = [], list(about["codecs"])
    while waiting:
        codec = waiting.pop()
        codec = {"name": codec} if isinstance(codec, str) else codec
        inner = codec.get("configuration") or {}
        found.append(str(codec["name"]))
        waiting += [*inner.get("codecs", []), *inner.get("index_codecs", [])]
        if len(found) > 64:
            raise BadSample("corrupt", "more than 64 codecs for one array")
    return found


def _variable(raw: Raw, path: str, about: Mapping[str, Any], folder: Path | None) -> _choose.Variable | None:
    """An array, its metadata checked; None when it holds text or dates."""
    dtype = _dtype(path, about)
    if dtype is None:
        return None
    version = about["zarr_format"]
    shape, chunks = about["shape"], about["chunks"] if version == 2 else _chunks_3(about)
    for sizes in (shape, chunks):
        if not all(type(n) is int and n >= 0 for n in sizes) or len(sizes) != len(shape):
            raise BadSample("corrupt", f"{path}: shape {shape}, chunks {chunks}")
    size = int(np.prod(chunks, dtype=object)) * dtype.itemsize
    if size > MAX_CHUNK or 0 in chunks:
        raise BadSample("too-large", f"{path}: a chunk of {size:,} bytes; want 1 to {MAX_CHUNK:,}")
    dims = about.get("dimension_names") or about["attributes"].get("_ARRAY_DIMENSIONS") or ()
    fill = about.get("fill_value")
    attributes = dict(about["plain"])
    if version == 2 and "_FillValue" not in attributes and isinstance(fill, int | float) and fill != 0:
        attributes["_FillValue"] = fill

    def read(keys: tuple[slice, ...]) -> NDArray[Any]:
        if folder is not None:
            return _read(folder, path, keys)
        inside = {
            name: data for name, data in raw.companions.items() if name.startswith(f"{path}/" if path else "")
        }
        with Raw(name=raw.name, content=b"", companions=inside).local() as part:
            return _read(part, path, keys)

    return _choose.Variable(
        path=f"/{path}",
        shape=tuple(shape),
        dtype=dtype,
        read=read,
        attributes=attributes,
        dims=tuple(str(dim or "") for dim in dims),
    )


def _chunks_3(about: Mapping[str, Any]) -> list[int]:
    """Of version 3; chunks inside shards are smaller than the shard, which is what counts."""
    chunks: list[int] = about["chunk_grid"]["configuration"]["chunk_shape"]
    return chunks


def _dtype(path: str, about: Mapping[str, Any]) -> np.dtype[Any] | None:
    """Format, type, codecs checked; None when it holds text or dates."""
    version = about.get("zarr_format")
    if version not in (2, 3):
        raise BadSample("unsupported", f"{path}: want Zarr format 2 or 3, got {version!r}")
    named = about.get("dtype" if version == 2 else "data_type")
    if not isinstance(named, str) or "|O" in named:
        raise BadSample("unsafe", f"{path}: want a plain number type, got {str(named)[:60]}")
    allowed = CODECS_2 if version == 2 else CODECS_3
    if unknown := [codec for codec in _codecs(about) if codec not in allowed]:
        raise BadSample("unsupported", f"{path}: want codecs among {allowed}, got {unknown}")
    if about.get("storage_transformers"):
        raise BadSample("unsupported", f"{path}: storage transformers are not read")
    try:
        dtype = np.dtype(named)
    except TypeError:
        return None
    if dtype.char not in _PLAIN:
        return None
    return dtype


def _read(folder: Path, path: str, keys: tuple[slice, ...]) -> NDArray[Any]:
    """Values through the zarr library, from a folder of this machine."""
    load("zarr")
    import zarr
    from zarr.storage import LocalStore

    array = zarr.open_array(LocalStore(folder, read_only=True), path=path, mode="r")
    return np.asarray(array[keys])


def _scene(raw: Raw, folder: Path | None = None) -> Scene:
    arrays, groups = _nodes(raw)
    variables = [
        v for path, about in arrays.items() if (v := _variable(raw, path, about, folder)) is not None
    ]
    stored = sum(raw.companion(name).size for name in raw.companions)
    return _choose.scene(variables, groups.get("", {}), format="zarr", stored=stored, groups=groups)


def probe(raw: Raw) -> Meta:
    """Metadata of all arrays; vectors that name bands are decoded by codecs just checked. BadSample."""
    return _scene(raw).facts.meta()


@contextmanager
def open(raw: Raw) -> Iterator[Scene]:
    """Windows decode only the chunks they touch."""
    with raw.local() as folder:
        yield _scene(raw, folder)
