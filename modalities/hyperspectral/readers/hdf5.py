"""HDF5 (EnMAP, PRISMA and NEON products, NetCDF 4, MATLAB 7.3): nothing in it may point outside of it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from modalities.base import BadSample, Meta, Raw
from modalities.hyperspectral.readers import _choose, _matrix
from modalities.hyperspectral.schema import Scene
from modalities.libraries import load

SUFFIXES = (".h5", ".he5", ".hdf5", ".nc", ".nc4", ".mat")
SIGNATURE = b"\x89HDF\r\n\x1a\n"
MATLAB = b"MATLAB 7.3 MAT-file"
FILTERS = {1: "deflate", 2: "shuffle", 3: "fletcher32", 4: "szip", 5: "nbit", 6: "scaleoffset", 32000: "lzf"}
MAX_OBJECTS = 4096
MAX_DEPTH = 32
MAX_CHUNK = 2**28  # decoded bytes of one chunk
MAX_ATTRIBUTE = 2**20


def matches(head: bytes) -> bool:
    """The signature at 0, or after MATLAB's user block of 512 bytes."""
    return head[:8] == SIGNATURE or (head[:19] == MATLAB and head[512:520] == SIGNATURE)


def probe(raw: Raw) -> Meta:
    """The superblock in pure Python: version, and that the file is as long as it says. Sizes stay None."""
    head = raw.head(1024)
    start = 512 if head[:19] == MATLAB else 0
    block = head[start:]
    version = block[8] if len(block) > 8 else 255
    if version in (0, 1):
        width, at = block[13], 24 + 4 * version
    elif version in (2, 3):
        width, at = block[9], 12
    else:
        raise BadSample("corrupt", f"want HDF5 superblock 0 to 3, got {version}")
    if width not in (4, 8) or len(block) < at + 4 * width:
        raise BadSample("corrupt", f"want HDF5 offsets of 4 or 8 bytes, got {width}")
    end = int.from_bytes(block[at + 2 * width : at + 3 * width], "little")
    if end > raw.size:
        raise BadSample("truncated", f"{raw.name} says it ends at byte {end:,}, it has {raw.size:,}")
    unknown = ("width", "height", "bands", "dtype", "interleave", "wavelengths", "wavelength_units", "fwhm")
    place = ("crs", "affine", "nodata", "scale", "offset", "bad_bands")
    return {"format": "hdf5", **dict.fromkeys((*unknown, *place))}


def _walk(root: Any) -> Iterator[tuple[str, Any]]:
    """(path, object) of everything reached by hard links, each once; links out of the file are refused."""
    import h5py

    seen, waiting = set[int](), [("", root, 0)]
    while waiting:
        path, group, depth = waiting.pop()
        for name in group:
            link = group.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                raise BadSample("unsafe", f"{path}/{name} is a link to another file, {link.filename[:60]!r}")
            if not isinstance(link, h5py.HardLink):
                continue  # a soft link adds nothing: what it names inside the file is met by its own path
            item = group[name]
            address = h5py.h5o.get_info(item.id).addr
            if address in seen:
                continue
            seen.add(address)
            if len(seen) > MAX_OBJECTS or depth > MAX_DEPTH:
                raise BadSample(
                    "too-large", f"want at most {MAX_OBJECTS} objects {MAX_DEPTH} deep in an HDF5"
                )
            yield f"{path}/{name}", item
            if isinstance(item, h5py.Group):
                waiting.append((f"{path}/{name}", item, depth + 1))


def _check(path: str, dataset: Any) -> None:
    """No data from elsewhere, no filter of a plug-in, no chunk too large to hold."""
    if dataset.external or dataset.is_virtual:
        raise BadSample("unsafe", f"{path} keeps its values in other files")
    creation = dataset.id.get_create_plist()
    codes = [creation.get_filter(i)[0] for i in range(creation.get_nfilters())]
    if unknown := [code for code in codes if code not in FILTERS]:
        raise BadSample("unsupported", f"{path}: want filters in {sorted(FILTERS.values())}, got {unknown}")
    size = int(np.prod(dataset.chunks or (1,), dtype=object)) * dataset.dtype.itemsize
    if size > MAX_CHUNK:
        raise BadSample("too-large", f"{path}: a chunk of {size:,} bytes; want at most {MAX_CHUNK:,}")
    if dataset.size and dataset.size * dataset.dtype.itemsize > 4096 and not dataset.id.get_storage_size():
        raise BadSample("corrupt", f"{path} claims {dataset.shape} and stores nothing")


def _attributes(item: Any) -> dict[str, Any]:
    """Plain attributes; references, records and whatever else cannot be read are left out."""
    found = {}
    for name in item.attrs:
        identifier = item.attrs.get_id(name)
        if identifier.get_storage_size() > MAX_ATTRIBUTE or identifier.dtype.kind not in "biufSUO":
            continue
        if (
            identifier.dtype.kind == "O"
            and identifier.dtype.metadata
            and "vlen" not in identifier.dtype.metadata
        ):
            continue
        value = _choose.plain(item.attrs[name])
        if value is not None:
            found[name] = value
    return found


def _variable(path: str, dataset: Any, *, reverse: bool) -> _choose.Variable:
    """MATLAB writes its axes last first: they are turned back."""
    shape = dataset.shape[::-1] if reverse else dataset.shape
    attributes = _attributes(dataset)

    def read(keys: tuple[slice, ...]) -> NDArray[Any]:
        values: NDArray[Any] = np.asarray(dataset[keys[::-1] if reverse else keys])
        return values.transpose() if reverse else values

    return _choose.Variable(
        path=path, shape=shape, dtype=dataset.dtype, read=read, attributes=attributes, dims=_dims(dataset)
    )


def _dims(dataset: Any) -> tuple[str, ...]:
    """Names of the axes: labels, else the scales attached to them."""
    names = []
    for dim in dataset.dims:
        label = dim.label or (dim[0].name.rpartition("/")[2] if len(dim) else "")
        names.append(label)
    return tuple(names)


@contextmanager
def open(raw: Raw) -> Iterator[Scene]:
    """Structure first, then windows; chunks that a window does not touch are not read."""
    load("h5py")
    import h5py

    source: Path | BinaryIO = raw.content if isinstance(raw.content, Path) else raw.open()
    matlab = raw.head(19) == MATLAB
    with (
        h5py.File(source, "r", locking=False) if isinstance(source, Path) else h5py.File(source, "r") as file
    ):
        variables, groups = [], {}
        for path, item in _walk(file):
            if isinstance(item, h5py.Group):
                groups[path] = _attributes(item)
            elif isinstance(item, h5py.Dataset) and item.shape is not None and len(item.shape) <= 4:
                _check(path, item)
                if item.dtype.kind in "biufcSO" and item.dtype.names is None:
                    variables.append(_variable(path, item, reverse=matlab))
        build = _matrix.scene if matlab else _choose.scene
        found = build(variables, _attributes(file), format="hdf5", stored=raw.size, groups=groups)
        yield replace(
            found, facts=replace(found.facts, more={**found.facts.more, **_origin(matlab, variables)})
        )


def _origin(matlab: bool, variables: list[_choose.Variable]) -> Mapping[str, Any]:
    netcdf = any("_Netcdf4Dimid" in v.attributes or "DIMENSION_LIST" in v.attributes for v in variables)
    return {"flavour": "matlab 7.3" if matlab else "netcdf 4" if netcdf else "hdf5"}
