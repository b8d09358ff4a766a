"""Raw objects -> shard files, shard files <-> arrays."""

import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modalities.base import MAX_DECODED_BYTES, Arrays, BadSample, Files, Measured, Meta, Raw
from modalities.hyperspectral.quality import fingerprint, quality
from modalities.hyperspectral.readers import geotiff, npz, reader_of
from modalities.hyperspectral.schema import Scene
from modalities.libraries import MissingLibrary, load

EXTENSIONS = {"geotiff": "tif", "hdf5": "h5", "mat5": "mat", "netcdf3": "nc", "npy": "npy", "npz": "cube.npz"}
ENVI, ZARR, SEGMENTATION = ("hdr", "img"), "zarr.zip", "seg.png"
MAX_MEMBERS = 1_000_000  # chunks of a Zarr


@contextmanager
def refusing(raw: Raw) -> Iterator[None]:
    """Whatever a decoder raises about an object's content is a BadSample "corrupt"."""
    try:
        yield
    except BadSample:
        raise
    except (FileNotFoundError, MissingLibrary):
        raise  # the source's trouble or the machine's, not the sample's
    except (Exception, RecursionError) as error:
        raise BadSample("corrupt", f"{raw.name}: {type(error).__name__}: {str(error)[:300]}") from error


def probe(raw: Raw) -> Meta:
    """Header facts, read in pure Python: see `schema.Facts.meta`; sizes an HDF5 hides are None. BadSample."""
    with refusing(raw):
        raw = _unpacked(raw)
        return reader_of(raw).probe(raw)


@contextmanager
def opened(raw: Raw) -> Iterator[Scene]:
    """The scene of a raw object, probed again, for reading by windows."""
    with refusing(raw):
        raw = _unpacked(raw)
        reader = reader_of(raw)
        reader.probe(raw)
        with reader.open(raw) as scene:
            yield with_mask(scene, raw)


def _unpacked(raw: Raw) -> Raw:
    """A Zarr that `pack` put into a zip as the folder it was; anything else as it is."""
    if not raw.filename.endswith(f".{ZARR}"):
        return raw
    beside = {
        name: data for name, data in raw.companions.items() if name.lower().endswith(f".{SEGMENTATION}")
    }
    return Raw(name=f"{raw.name[:-4]}/", content=b"", companions={**unzip(raw.read()), **beside})


def with_mask(scene: Scene, raw: Raw) -> Scene:
    """Add `segmentation` from a PNG beside the object."""
    name = mask_name(raw)
    if name is None:
        return scene
    mask = read_mask(raw.companion(name).read(), scene.facts.shape[:2])
    planes = {**scene.planes, "segmentation": lambda w: mask[w.y : w.y + w.height, w.x : w.x + w.width]}
    return Scene(facts=scene.facts, read=scene.read, planes=planes, extras=scene.extras)


def mask_name(raw: Raw) -> str | None:
    """The companion that holds class numbers."""
    return next((name for name in sorted(raw.companions) if name.lower().endswith(f".{SEGMENTATION}")), None)


def pack(raw: Raw, meta: Meta) -> Files:
    """The bytes as they are; a Zarr's chunk files unchanged inside one stored zip."""
    name = mask_name(raw)
    mask = {} if name is None else {SEGMENTATION: raw.companion(name).read()}
    if meta["format"] == "zarr":
        return {ZARR: _zip(raw)} if raw.name.endswith("/") else {ZARR: raw.read(), **mask}
    if meta["format"] == "envi":
        body = raw.companion(meta["body"]).read()
        return {"hdr": raw.read(), "img": body, **mask}
    return {EXTENSIONS[meta["format"]]: raw.read(), **mask}


def _zip(raw: Raw) -> bytes:
    out = BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(raw.companions):
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), raw.companion(name).read())
    return out.getvalue()


def unzip(data: bytes) -> dict[str, bytes]:
    """A Zarr's files; names that leave the folder and compressed members are refused."""
    with zipfile.ZipFile(BytesIO(data)) as archive:
        infos = archive.infolist()
        if len(infos) > MAX_MEMBERS:
            raise BadSample("too-large", f"{len(infos):,} files in a Zarr; want at most {MAX_MEMBERS:,}")
        for info in infos:
            path = PurePosixPath(info.filename)
            if path.is_absolute() or ".." in path.parts or "\\" in info.filename or not path.parts:
                raise BadSample("unsafe", f"want a file inside the Zarr, got {info.filename[:80]!r}")
            if info.compress_type != zipfile.ZIP_STORED or info.file_size > len(data):
                raise BadSample("unsupported", f"want {info.filename[:80]!r} stored, not compressed")
        return {info.filename: archive.read(info) for info in infos if not info.is_dir()}


def raw_of(files: Files) -> Raw:
    """The raw object a sample's files came from; LookupError when there is no cube among them."""
    name: str
    if ZARR in files:
        beside = {f"mask.{SEGMENTATION}": files[SEGMENTATION]} if SEGMENTATION in files else {}
        with refusing(Raw(name=ZARR, content=b"")):
            return Raw(name="sample.zarr/", content=b"", companions={**unzip(files[ZARR]), **beside})
    mask = {f"sample.{SEGMENTATION}": files[SEGMENTATION]} if SEGMENTATION in files else {}
    if all(extension in files for extension in ENVI):
        return Raw(name="sample.hdr", content=files["hdr"], companions={"sample.img": files["img"], **mask})
    for name in ("cube.npz", "tif", "h5", "mat", "nc", "npy"):
        if name in files:
            return Raw(name=f"sample.{name}", content=files[name], companions=mask)
    wanted = [*EXTENSIONS.values(), "hdr + img", ZARR]
    raise LookupError(f"want one of {wanted} among a sample's files, got {sorted(files)}")


def decode(files: Files) -> Arrays:
    """Files -> `cube` (h, w, c) as stored and the fields of `schema.Facts`, `segmentation` (h, w) int32.

    Refuses more than MAX_DECODED_BYTES, and everything that is not what its header says: BadSample.
    """
    return _decoded(files, owned=True)


def measure(files: Files, meta: Meta) -> Measured:
    """What `quality` and `fingerprint` say of the decoded cube, which is not brought into order first."""
    arrays: Arrays | None = None
    if meta["format"] == "geotiff" and SEGMENTATION not in files:
        raw = raw_of(files)
        with refusing(raw):
            arrays = geotiff.look(raw) if raw.filename.endswith(geotiff.SUFFIXES) else None
    if arrays is None:
        arrays = _decoded(files, owned=False)
    return quality(arrays), fingerprint(arrays)


def _decoded(files: Files, *, owned: bool) -> Arrays:
    raw = raw_of(files)
    with opened(raw) as scene:
        arrays = scene.arrays(owned=owned)
    if sum(array.nbytes for array in arrays.values()) > 2 * MAX_DECODED_BYTES:
        raise BadSample("too-large", f"the fields of {raw.name} are more than twice the cube allowed")
    return {name: as_labels(value) if name == "segmentation" else value for name, value in arrays.items()}


def as_labels(values: NDArray[Any]) -> NDArray[np.int32]:
    """Class numbers as int32; BadSample if they are not whole."""
    labels: NDArray[np.int32] = np.rint(values.real).astype(np.int32)
    if values.ndim != 2 or not np.array_equal(labels, values):
        raise BadSample("corrupt", f"segmentation: want whole (h, w), got {values.dtype} {values.shape}")
    return labels


def encode(arrays: Arrays) -> Files:
    """{"cube.npz": every field as one .npy, "seg.png": the class numbers where they are 0 to 65535}.

    Nothing is compressed with loss and nothing is dated: equal arrays give equal bytes.
    """
    fields = dict(arrays)
    cube = fields.get("cube")
    if cube is None or cube.ndim != 3:
        raise ValueError(f"want `cube` (h, w, c), got {None if cube is None else cube.shape}")
    files: dict[str, bytes] = {}
    mask = fields.get("segmentation")
    if mask is not None and mask.size and mask.min() >= 0 and mask.max() <= 65535:
        files[SEGMENTATION] = write_mask(as_labels(fields.pop("segmentation")))
    return {"cube.npz": npz.write(fields), **files}


def write_mask(labels: NDArray[Any]) -> bytes:
    """(h, w) 0..65535 -> grey PNG of 8 or 16 bits."""
    depth = 8 if labels.max() <= 255 else 16
    height, width = labels.shape
    values = labels.astype(">u1" if depth == 8 else ">u2").view(np.uint8).reshape(height, -1)
    rows = np.concatenate([np.zeros((height, 1), np.uint8), values], axis=1).tobytes()
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0),
        b"IDAT": zlib.compress(rows, 6),
    }
    chunks[b"IEND"] = b""
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks.items()
    )
    return b"\x89PNG\r\n\x1a\n" + body


def read_mask(data: bytes, shape: tuple[int, int]) -> NDArray[np.int32]:
    """A grey or palette PNG of the cube's height and width -> class numbers int32."""
    if data[:8] != b"\x89PNG\r\n\x1a\n" or len(data) < 26:
        raise BadSample("corrupt", f"want a PNG as {SEGMENTATION}, got {data[:8]!r}")
    width, height, _, colour = struct.unpack_from(">IIBB", data, 16)
    if (height, width) != shape or colour not in (0, 3):
        got = f"{(height, width)} of PNG colour type {colour}"
        raise BadSample("corrupt", f"{SEGMENTATION}: want grey or palette {shape} like the cube, got {got}")
    load("PIL")
    from PIL import Image

    with Image.open(BytesIO(data), formats=["PNG"]) as image:
        return np.array(image, dtype=np.int32)
