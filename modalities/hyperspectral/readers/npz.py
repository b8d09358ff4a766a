"""Our own container, `cube.npz`: one .npy a field, in a zip that is stored and has no dates."""

import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modalities.base import Arrays, BadSample, Meta, Raw, check_decoded
from modalities.hyperspectral.readers.npy import header, size_of
from modalities.hyperspectral.schema import MAX_RATIO, Facts, Scene, Window

SUFFIXES = (".npz",)
PLANES = ("segmentation", "abundances")  # (h, w) and (h, w, k)
LABELS = ("segmentation", "labels", "label", "seg", "gt", "mask")
_NUMBERS = ("wavelengths", "fwhm", "affine", "nodata", "scale", "offset", "bad_bands")
_MAX_MEMBERS = 64


def matches(head: bytes) -> bool:
    """A zip's first member."""
    return head[:4] == b"PK\x03\x04"


def write(arrays: Arrays) -> bytes:
    """{field: array} -> the same bytes for the same arrays, whenever and wherever."""
    out = BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(arrays):
            member = BytesIO()
            np.lib.format.write_array(member, np.asarray(arrays[name]), version=(1, 0), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0)), member.getvalue())
    return out.getvalue()


def _members(archive: zipfile.ZipFile, stored: int) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
    """{field: (dtype, shape)} of the members, sizes and headers checked before anything is read."""
    infos = archive.infolist()
    if len(infos) > _MAX_MEMBERS or len({info.filename for info in infos}) != len(infos):
        raise BadSample(
            "corrupt", f"want at most {_MAX_MEMBERS} members of different names, got {len(infos)}"
        )
    found = {}
    for info in infos:
        name = info.filename
        if not name.endswith(".npy") or not name[:-4].isidentifier():
            raise BadSample("unsupported", f"want members FIELD.npy, got {name[:60]!r}")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or info.flag_bits & 1:
            raise BadSample("unsupported", f"want {name} stored or deflated and not encrypted")
        if info.file_size > max(stored, 4096) * MAX_RATIO:
            raise BadSample("too-large", f"{name} claims {info.file_size:,} bytes in a file of {stored:,}")
        with archive.open(info) as member:
            dtype, _, shape, start = header(member.read(2**16))
        if start + size_of(dtype, shape) != info.file_size:
            raise BadSample("corrupt", f"{name} is {info.file_size:,} bytes, its header claims another size")
        found[name[:-4]] = (dtype, shape)
    return found


def _load(archive: zipfile.ZipFile, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    check_decoded(name, shape, dtype.itemsize)
    data = archive.read(f"{name}.npy")
    _, fortran, _, start = header(data[: 2**16])
    flat = np.frombuffer(data, dtype, offset=start)
    return flat.reshape(shape[::-1]).transpose() if fortran else flat.reshape(shape)


def _facts(
    archive: zipfile.ZipFile, stored: int
) -> tuple[Facts, dict[str, tuple[np.dtype[Any], tuple[int, ...]]]]:
    members = _members(archive, stored)
    if "cube" not in members or len(members["cube"][1]) != 3:
        raise BadSample("unsupported", f"want a field `cube` (h, w, c), got {sorted(members)}")
    dtype, (height, width, bands) = members["cube"]
    known: dict[str, Any] = {}
    for name in _NUMBERS:
        if name in members and members[name][0].kind in "biuf" and size_of(*members[name]) <= 2**17:
            value = _load(archive, name, *members[name])
            known[name] = value.tolist()
    if "crs" in members and members["crs"][0].kind == "U" and size_of(*members["crs"]) <= 2**20:
        known["crs"] = str(_load(archive, "crs", *members["crs"]))
    _check(known)
    facts = Facts(format="npz", shape=(height, width, bands), dtype=dtype, interleave="bip", **known)
    return facts.checked(stored), members


def _check(known: Mapping[str, Any]) -> None:
    dims = {"wavelengths": (1,), "fwhm": (1,), "bad_bands": (1,), "affine": (1,), "nodata": (0,)}
    for name, value in known.items():
        if name != "crs" and np.ndim(value) not in dims.get(name, (0, 1)):
            raise BadSample("corrupt", f"{name}: got {np.ndim(value)} axes")
    if len(known.get("affine", [0] * 6)) != 6:
        raise BadSample("corrupt", f"affine: want 6 numbers, got {len(known['affine'])}")


@contextmanager
def _archive(raw: Raw) -> Iterator[zipfile.ZipFile]:
    with raw.open() as file, zipfile.ZipFile(file) as archive:
        yield archive


def probe(raw: Raw) -> Meta:
    """Directory of the zip and headers of its arrays; BadSample."""
    with _archive(raw) as archive:
        return _facts(archive, raw.size)[0].meta()


@contextmanager
def open(raw: Raw) -> Iterator[Scene]:
    """A field is loaded whole, once, however many windows are read."""
    with _archive(raw) as archive:
        facts, members = _facts(archive, raw.size)
        loaded: dict[str, NDArray[Any]] = {}

        def read(name: str, window: Window) -> NDArray[Any]:
            if name not in loaded:
                loaded[name] = _load(archive, name, *members[name])
            return loaded[name][window.y : window.y + window.height, window.x : window.x + window.width]

        rest = set(members) - {"cube", "crs", *_NUMBERS}
        labels = next((name for name in LABELS if name in rest), None)
        names = {"segmentation": labels, "abundances": "abundances" if "abundances" in rest else None}
        planes = {
            field: (lambda window, name=name: read(name, window))
            for field, name in names.items()
            if name is not None and members[name][1][:2] == facts.shape[:2]
        }
        extras = {
            name: _load(archive, name, *members[name])
            for name in sorted(rest - set(filter(None, names.values())))
        }
        yield Scene(facts=facts, read=lambda window: read("cube", window), planes=planes, extras=extras)
