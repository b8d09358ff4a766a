"""Hostile hyperspectral rasters."""

import json
import struct
import zipfile
from collections.abc import Callable, Mapping
from functools import cache
from io import BytesIO
from typing import Any

import h5py
import numpy as np
import scipy.io
from hostile.case import Case, Place, builders, pickled, stored

from modalities.base import Raw

theirs = builders("modalities/hyperspectral/test_hostile.py")
CUBE = theirs.CUBE
Content = bytes | Callable[[Place], bytes]


def case(
    name: str, about: str, reason: str, files: Mapping[str, Content], library: str, *, file: str = ""
) -> Case:
    """`files`: their names and contents; the first, or `file`, is what a library is given."""

    def make(place: Place) -> None:
        for path, content in files.items():
            stored(path, content)(place)

    return Case(
        name=name, about=about, modality="hyperspectral", reason=reason, library=library, make=make,
        file=file or next(iter(files)),
    )  # fmt: skip


def cases() -> list[Case]:
    return [*_descriptions(), *_tiffs(), *_envis(), *_hdf5s(), *_arrays(), *_zarrs()]


def _vrt(source: str) -> bytes:
    band = '<VRTRasterBand dataType="Byte" band="1" subClass="VRTRawRasterBand">'
    name = f'<SourceFilename relativeToVRT="0">{source}</SourceFilename>'
    return (
        f'<VRTDataset rasterXSize="5" rasterYSize="2">{band}{name}<ImageOffset>0</ImageOffset>'
        "<PixelOffset>1</PixelOffset><LineOffset>5</LineOffset></VRTRasterBand></VRTDataset>"
    ).encode()


def _web_vrt(place: Place) -> bytes:
    source = f"<SourceFilename>/vsicurl/{place.url}/a.tif</SourceFilename><SourceBand>1</SourceBand>"
    return (
        '<VRTDataset rasterXSize="5" rasterYSize="4"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
        f"{source}</SimpleSource></VRTRasterBand></VRTDataset>"
    ).encode()


def _map_server(place: Place) -> bytes:
    return (
        f"<GDAL_WMS><Service name='WMS'><ServerUrl>{place.url}</ServerUrl></Service>"
        "<DataWindow><SizeX>9</SizeX><SizeY>9</SizeY></DataWindow></GDAL_WMS>"
    ).encode()


def _descriptions() -> list[Case]:
    return [
        case("tif-is-vrt", "a GDAL description of a local file, called .tif", "unsafe",
             {"s.tif": lambda place: _vrt(str(place.canary))}, "rasterio"),
        case("tif-is-vrt-behind-spaces", "the same behind empty lines", "unsafe",
             {"s.tif": lambda place: b"\n\n" + _vrt(str(place.canary))}, "rasterio"),
        case("tif-is-web-vrt", "a GDAL description of a server inside", "unsafe",
             {"s.tif": _web_vrt}, "rasterio"),
        case("tif-is-wms", "a GDAL description of a map server", "unsafe",
             {"s.tif": _map_server}, "rasterio"),
        case("hdr-is-picture", "a Radiance picture called .hdr", "unknown-format",
             {"s.hdr": b"#?RADIANCE\n"}, "rasterio"),
    ]  # fmt: skip


def _tiffs() -> list[Case]:
    changes: list[tuple[str, str, dict[str, int], str]] = [
        ("no-width", "0 columns", {"t256": 0}, "empty"),
        ("2-31-columns", "2^31 columns", {"t256": 2**31}, "too-large"),
        ("2-31-rows", "2^31 rows in strips of one", {"t257": 2**31, "t278": 1}, "corrupt"),
        (
            "gigapixels",
            "400 rows of 4e6 columns in one strip",
            {"t257": 400, "t278": 400, "t256": 4_000_000},
            "too-large",
        ),
        ("strip-elsewhere", "a strip at byte 2^31", {"t273": 2**31}, "truncated"),
        ("strip-of-2-gb", "a strip of 2 GiB", {"t279": 2**31}, "truncated"),
        ("65535-bands", "65535 bands", {"t277": 65535}, "too-large"),
        ("12-bit", "12 bits a sample", {"t258": 12}, "unsupported"),
        ("unknown-codec", "a compression nobody has", {"t259": 34712}, "unsupported"),
        ("loop", "a directory that is its own next", {"next": 28}, "corrupt"),
        ("next-elsewhere", "a next directory behind the end", {"next": 10_000}, "truncated"),
    ]
    return [
        case(f"tif-{name}", about, reason, {"s.tif": theirs._tiff(**tags)}, "rasterio")
        for name, about, tags, reason in changes
    ] + [
        case(
            "tif-is-gif", "a GIF called .tif", "unknown-format", {"s.tif": b"GIF89a" + bytes(99)}, "rasterio"
        )
    ]


def _envis() -> list[Case]:
    header, body = theirs.ENVI, CUBE.tobytes()
    made = [
        case(f"envi-{name}", about, reason, {"s.hdr": header.replace(old, new), "s.img": body}, "rasterio",
             file="s.img")
        for name, about, old, new, reason in (
            ("more-lines", "a line more than the body has", b"lines = 4", b"lines = 5", "truncated"),
            ("fewer-lines", "a line less", b"lines = 4", b"lines = 3", "corrupt"),
            ("1e10-lines", "1e10 lines", b"lines = 4", b"lines = 10000000000", "truncated"),
            ("negative", "-4 lines", b"lines = 4", b"lines = -4", "corrupt"),
            ("no-bands", "no bands", b"bands = 3", b"bands = 0", "corrupt"),
            ("type-7", "a type nobody has", b"data type = 12", b"data type = 7", "unsupported"),
            ("compressed", "a compressed body", b"interleave = bip", b"file compression = 1", "unsupported"),
        )
    ]  # fmt: skip
    names = {"absolute": "/etc/passwd", "up": "../outside/canary", "below": "a/s.img", "hidden": ".hidden"}
    return [
        *made,
        *(
            case(f"envi-body-{how}", f"a body called {name}", "unsafe",
                 {"s.hdr": header + f"data file = {name}\n".encode(), "s.img": body}, "rasterio",
                      file="s.img")
            for how, name in names.items()
        ),
        case("envi-alone", "a header without a body", "missing-companion", {"s.hdr": header}, "rasterio"),
    ]  # fmt: skip


def _built(build: Callable[[Any, Place], None]) -> Callable[[Place], bytes]:
    def content(place: Place) -> bytes:
        with h5py.File(out := BytesIO(), "w") as file:
            build(file, place)
        return out.getvalue()

    return content


def _other(place: Place) -> str:
    path = place.outside / "other.h5"
    with h5py.File(path, "w") as file:
        file["cube"] = np.frombuffer(place.canary.read_bytes().ljust(60), np.uint8).reshape(4, 5, 3)
    return str(path)


def _link(file: Any, place: Place) -> None:
    file["cube"] = h5py.ExternalLink(_other(place), "/cube")


def _deep(file: Any, place: Place) -> None:
    file["cube"] = CUBE
    file["a/b/c"] = h5py.ExternalLink(_other(place), "/cube")


def _storage(file: Any, place: Place) -> None:
    place.canary.write_bytes(place.canary.read_bytes().ljust(60))
    file.create_dataset("cube", (4, 5, 3), "u1", external=[(str(place.canary), 0, 60)])


def _virtual(file: Any, place: Place) -> None:
    layout = h5py.VirtualLayout((4, 5, 3), "u1")
    layout[:] = h5py.VirtualSource(_other(place), "cube", (4, 5, 3))
    file.create_virtual_dataset("cube", layout)


def _loop(file: Any, place: Place) -> None:
    file["a/b"] = file["/"]


def _hollow(file: Any, place: Place) -> None:
    file.create_dataset("cube", (2**20, 2**20, 7), "f8", chunks=(64, 64, 7))


def _chunk(file: Any, place: Place) -> None:
    file.create_dataset("cube", (2**10, 2**10, 2**7), "f8", chunks=(2**10, 2**10, 2**7), compression=1)


def _zeros(file: Any, place: Place) -> None:
    data = file.create_dataset("cube", (600, 1000, 512), "f8", chunks=(60, 100, 512), compression=9)
    data[:60, :100] = 0.0


def _text(file: Any, place: Place) -> None:
    file["cube"] = np.array([["a", "b"]], h5py.string_dtype())


def _many(file: Any, place: Place) -> None:
    for i in range(11_000):
        file.create_group(f"g{i}")


def _hdf5s() -> list[Case]:
    made: list[tuple[str, str, str, Callable[[Any, Place], None]]] = [
        ("external-link", "a link to another file", "unsafe", _link),
        ("external-link-deep", "the same in a group beside a good cube", "unsafe", _deep),
        ("external-storage", "values that lie in another file", "unsafe", _storage),
        ("virtual", "a cube put together from another file", "unsafe", _virtual),
        ("loop", "a group that holds itself", "unsupported", _loop),
        ("hollow", "2^40 pixels, none of them written", "corrupt", _hollow),
        ("chunk-of-1-gb", "a chunk of 1 GiB", "too-large", _chunk),
        ("mostly-zeros", "2.4 GB of mostly unwritten values", "too-large", _zeros),
        ("text", "text for pixels", "unsupported", _text),
        ("11000-groups", "11,000 empty groups", "too-large", _many),
    ]
    return [
        case(f"h5-{name}", about, reason, {"s.h5": _built(build)}, "h5py")
        for name, about, reason, build in made
    ]


def _npy(text: str, body: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + body


def _object(place: Place) -> bytes:
    return _npy("{'descr': '|O', 'fortran_order': False, 'shape': (1, 1, 1), }", pickled(place))


def _npz(members: Mapping[str, bytes], *, packed: bool = False) -> bytes:
    with zipfile.ZipFile(
        out := BytesIO(), "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
    ) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


@cache
def _plain(shape: str = "(4, 5, 3)") -> bytes:
    return _npy(f"{{'descr': '<u2', 'fortran_order': False, 'shape': {shape}, }}", CUBE.tobytes())


@cache
def _bomb() -> bytes:
    """1.1 GB of zeros in a megabyte."""
    head = _npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1000, 1000, 140), }")
    with (
        zipfile.ZipFile(out := BytesIO(), "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("cube.npy", "w") as member,
    ):
        member.write(head)
        for _ in range(140):
            member.write(bytes(8_000_000))
    return out.getvalue()


def _mat(packed: bool) -> bytes:
    scipy.io.savemat(out := BytesIO(), {"cube": CUBE}, do_compression=packed)
    return out.getvalue()


def _struct_mat() -> bytes:
    scipy.io.savemat(out := BytesIO(), {"cube": {"a": np.array([{"b": 1}], object)}})
    return out.getvalue()


@cache
def _netcdf() -> bytes:
    found: Raw = theirs._samples()["nc"]
    return found.read()


def _arrays() -> list[Case]:
    mat, packed, nc = _mat(False), _mat(True), _netcdf()
    return [
        case("npy-pickle", "an array of objects, which is a pickle", "unsafe", {"s.npy": _object}, "NumPy"),
        case("npy-1e12", "1e12 rows", "truncated", {"s.npy": _plain("(1000000000000, 5, 3)")}, "NumPy"),
        case("npy-code", "a header that is a call", "corrupt",
             {"s.npy": _npy("__import__('os').abort()")}, "NumPy"),
        case("npz-pickle", "an archive with a pickle in it", "unsafe",
             {"s.npz": lambda place: _npz({"cube.npy": _plain(), "more.npy": _object(place)})}, "NumPy"),
        case("npz-bomb", "1.1 GB of zeros in a few MB", "too-large", {"s.npz": _bomb()}, "NumPy"),
        case("npz-up", "a member called ../up.npy", "unsupported", {"s.npz": _npz({"cube.npy": _plain(),
             "../up.npy": _plain()})}, "NumPy"),
        case("npz-cut", "half of an archive", "corrupt",
             {"s.npz": _npz({"cube.npy": _plain()})[:120]}, "NumPy"),
        case("mat-cut", "half of a MATLAB file", "truncated", {"s.mat": mat[: len(mat) // 2]}, "SciPy"),
        case("mat-packed-cut", "half of a packed MATLAB file", "truncated",
             {"s.mat": packed[: len(packed) - 40]}, "SciPy"),
        case("mat-2-gb", "an element of 2 GiB", "truncated", {"s.mat": mat[:132] + struct.pack("<I",
             2**31) + mat[136:]}, "SciPy"),
        case("mat-objects", "cells and structures, no numbers", "unsupported",
             {"s.mat": _struct_mat()}, "SciPy"),
        case("nc-2-31", "a dimension of 2^31", "truncated",
             {"s.nc": nc.replace(b"\0\0\0\1y\0\0\0\0\0\0\4", b"\0\0\0\1y\0\0\0\x7f\xff\xff\xff")}, "SciPy"),
        case("nc-cut", "half of a NetCDF", "truncated", {"s.nc": nc[: len(nc) // 2]}, "SciPy"),
        case("nc-is-tif", "a TIFF called .nc", "extension-mismatch", {"s.nc": theirs._tiff()}, "SciPy"),
    ]  # fmt: skip


def _zarr(**changes: Any) -> dict[str, Content]:
    inside: Mapping[str, bytes] = theirs._samples()["zarr"].companions
    about = {**json.loads(inside["zarr.json"]), **changes}
    return {
        f"s.zarr/{name}": data for name, data in {**inside, "zarr.json": json.dumps(about).encode()}.items()
    }


def _zarr2(**changes: Any) -> dict[str, Content]:
    about = {"zarr_format": 2, "shape": [2, 2, 2], "chunks": [2, 2, 2], "dtype": "<u2", "order": "C",
             "compressor": None, "filters": None, "fill_value": 0, **changes}  # fmt: skip
    return {"s.zarr/.zarray": json.dumps(about).encode()}


def _linked(place: Place) -> None:
    for name, content in _zarr().items():
        stored(name, content)(place)
    (place.root / "s.zarr" / "c" / "0" / "0" / "9").symlink_to(place.canary)


def _kerchunk(place: Place) -> bytes:
    refs = {
        ".zgroup": '{"zarr_format": 2}',
        "cube/.zarray": "{}",
        "cube/0.0.0": [f"file://{place.canary}", 0, 9],
    }
    return json.dumps({"version": 1, "refs": refs}).encode()


def _zarrs() -> list[Case]:
    made: list[tuple[str, str, str, dict[str, Content]]] = [
        ("pickle-codec", "chunks that are pickles", "unsupported",
             _zarr(codecs=[{"name": "numcodecs.pickle"}])),
        ("objects", "values that are objects", "unsafe", _zarr(data_type="|O")),
        ("2-40-rows", "2^40 rows", "too-large", _zarr(shape=[2**40, 5, 3])),
        ("chunk-of-terabytes", "chunks of 3 TB", "too-large",
         _zarr(chunk_grid={"name": "regular", "configuration": {"chunk_shape": [2**20, 2**20, 3]}})),
        ("transformers", "a storage transformer", "unsupported", _zarr(storage_transformers=[{"name": "x"}])),
        ("format-9", "format 9", "unsupported", _zarr(zarr_format=9)),
        ("2-pickle", "chunks that are pickles", "unsupported", _zarr2(compressor={"id": "pickle"})),
        ("2-pickle-filter", "a filter that unpickles", "unsupported", _zarr2(filters=[{"id": "pickle"}])),
        ("2-objects", "values that are objects", "unsafe", _zarr2(dtype="|O")),
    ]  # fmt: skip
    return [
        *(
            case(f"zarr-{name}", about, reason, files, "zarr", file="s.zarr")
            for name, about, reason, files in made
        ),
        Case(name="zarr-link", about="a chunk that is a link to another file", modality="hyperspectral",
             reason="unsafe", library="zarr", make=_linked, file="s.zarr"),
        case("zarr-references", "a kerchunk list of a local file, called .zarr", "unknown-format",
             {"s.zarr": _kerchunk}, "zarr"),
    ]  # fmt: skip
