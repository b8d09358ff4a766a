"""Broken and hostile files are a BadSample with a reason: never a crash, a hang, or somebody else's file."""

import json
import struct
from collections.abc import Callable
from functools import cache
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zipfile import ZipFile

import h5py
import numpy as np
import pytest
import rasterio
import scipy.io
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from modalities.base import MAX_DECODED_BYTES, BadSample, Raw
from modalities.hyperspectral import MODALITY

CUBE = np.arange(4 * 5 * 3, dtype=np.uint16).reshape(4, 5, 3)
ENVI = b"""ENVI
samples = 5
lines = 4
bands = 3
header offset = 0
data type = 12
interleave = bip
byte order = 0
"""
REASONS = {"ok", "empty", "unknown-format", "extension-mismatch", "truncated", "too-large", "corrupt"}
REASONS |= {"unsupported", "unsafe", "missing-companion"}


def _take(raw: Raw) -> None:
    """Probe, pack, decode and cut, as a pipeline would."""
    meta = MODALITY.probe(raw)
    json.dumps(meta, allow_nan=False)
    MODALITY.decode(MODALITY.pack(raw, meta))
    cut = MODALITY.cuts["tiles"]
    for piece in cut.plan(raw, meta, size=3)[:2]:
        cut.extract(raw, meta, piece.spec, size=3)


def _refused(raw: Raw) -> str:
    with pytest.raises(BadSample) as caught:
        _take(raw)
    return caught.value.reason


def _outcome(raw: Raw) -> str:
    try:
        _take(raw)
    except BadSample as bad:
        return bad.reason
    return "ok"


def _envi(header: bytes = ENVI, body: bytes = CUBE.tobytes(), name: str = "s.img") -> Raw:
    return Raw(name="s.hdr", content=header, companions={name: body})


@cache
def _samples() -> dict[str, Raw]:
    """A small valid object of each format."""
    found = {"envi": _envi(), "tif": Raw(name="s.tif", content=MODALITY.synth(1)["tif"])}
    found["npz"] = Raw(name="s.npz", content=MODALITY.encode({"cube": CUBE})["cube.npz"])
    np.save(out := BytesIO(), CUBE)
    found["npy"] = Raw(name="s.npy", content=out.getvalue())
    for packed in (False, True):
        scipy.io.savemat(out := BytesIO(), {"cube": CUBE, "wavelength": [1, 2, 3]}, do_compression=packed)
        found[f"mat{packed}"] = Raw(name="s.mat", content=out.getvalue())
    with h5py.File(out := BytesIO(), "w") as file:
        file.create_dataset("cube", data=CUBE, chunks=(2, 5, 3), compression=1)
        file["wavelength"] = [1.0, 2, 3]
    found["h5"] = Raw(name="s.h5", content=out.getvalue())
    with TemporaryDirectory() as folder:
        with scipy.io.netcdf_file(Path(folder, "s.nc"), "w") as file:
            for name, size in zip("yxb", CUBE.shape, strict=True):
                file.createDimension(name, size)
            file.createVariable("cube", "i2", tuple("yxb"))[:] = CUBE
        found["nc"] = Raw(name="s.nc", content=Path(folder, "s.nc").read_bytes())
        root = Path(folder, "s.zarr")
        zarr.create_array(root, data=CUBE, chunks=(2, 5, 3))
        inside = {str(f.relative_to(root)): f.read_bytes() for f in root.rglob("*") if f.is_file()}
        found["zarr"] = Raw(name="s.zarr/", content=b"", companions=inside)
    return found


FORMATS = ["envi", "h5", "matFalse", "matTrue", "nc", "npy", "npz", "tif", "zarr"]


@pytest.mark.parametrize("name", FORMATS)
def test_the_unbroken_samples_pass(name: str) -> None:
    _take(_samples()[name])


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "zarr"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.9, 0.999])
def test_truncation_is_refused(name: str, share: float) -> None:
    raw = _samples()[name]
    data = raw.read()
    cut = Raw(name=raw.name, content=data[: int(len(data) * share)], companions=raw.companions)
    if name == "envi":
        cut = _envi(body=CUBE.tobytes()[: int(CUBE.nbytes * share)])
    assert _refused(cut) in {"empty", "truncated", "corrupt", "unknown-format", "unsupported"}


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=40)
@given(data=st.data())
def test_mutations_are_fine_or_bad_samples(name: str, data: st.DataObject) -> None:
    raw = _samples()[name]
    which = data.draw(st.sampled_from(["", *sorted(raw.companions)])) if raw.companions else ""
    content = bytearray(raw.companions[which] if which else raw.content)  # type: ignore[arg-type]
    for _ in range(data.draw(st.integers(1, 4))):
        if not content:
            continue
        at = data.draw(st.integers(0, min(len(content), 2048) - 1))
        size = data.draw(st.sampled_from([1, 1, 2, 4, 8]))
        content[at : at + size] = data.draw(st.binary(min_size=size, max_size=size))
    companions = {**raw.companions, which: bytes(content)} if which else raw.companions
    changed = Raw(name=raw.name, content=raw.content if which else bytes(content), companions=companions)
    assert _outcome(changed) in REASONS


def test_the_corrupt_geotiff_is_refused(shared_data: Path) -> None:
    assert _refused(Raw(name="corrupt.tif", content=shared_data / "hostile" / "corrupt.tif")) == "truncated"


def test_a_vrt_named_tif_reads_nothing(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"A" * 60)
    text = f"""<VRTDataset rasterXSize="5" rasterYSize="4"><VRTRasterBand dataType="Byte" band="1"
        subClass="VRTRawRasterBand"><SourceFilename>{tmp_path}/secret</SourceFilename></VRTRasterBand></VRTDataset>"""
    assert _refused(Raw(name="s.tif", content=text.encode())) == "unsafe"
    assert _refused(Raw(name="s.tif", content=b"\n\n" + text.encode())) == "unsafe"


@pytest.mark.parametrize("name", ["/etc/passwd", "../s.img", "a/s.img", "..\\s.img", ".hidden"])
def test_an_envi_header_cannot_name_a_body_elsewhere(name: str) -> None:
    assert _refused(_envi(ENVI + f"data file = {name}\n".encode())) == "unsafe"


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b"lines = 4", b"lines = 5", "truncated"),
        (b"lines = 4", b"lines = 3", "corrupt"),
        (b"lines = 4", b"lines = 10000000000", "truncated"),
        (b"lines = 4", b"lines = -4", "corrupt"),
        (b"bands = 3", b"bands = 0", "corrupt"),
        (b"data type = 12", b"data type = 7", "unsupported"),
        (b"header offset = 0", b"header offset = 2", "truncated"),
        (b"interleave = bip", b"file compression = 1", "unsupported"),
    ],
)
def test_lying_envi_headers_are_refused(old: bytes, new: bytes, reason: str) -> None:
    assert _refused(_envi(ENVI.replace(old, new))) == reason


def test_an_envi_header_alone_says_what_is_missing() -> None:
    with pytest.raises(BadSample, match=r"missing-companion: want one of .*s\.img.* got \['other'\]"):
        MODALITY.probe(_envi(name="other"))


def test_the_contents_decide_and_the_extension_must_agree() -> None:
    samples = _samples()
    assert _refused(Raw(name="s.npy", content=samples["tif"].content)) == "extension-mismatch"
    assert _refused(Raw(name="s.tif", content=b"GIF89a" + bytes(99))) == "unknown-format"
    assert _refused(Raw(name="s.hdr", content=b"#?RADIANCE\n")) == "unknown-format"


def _hdf5(build: Callable[[Any], None]) -> Raw:
    with h5py.File(out := BytesIO(), "w") as file:
        build(file)
    return Raw(name="s.h5", content=out.getvalue())


def test_hdf5_links_and_storage_outside_the_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(CUBE.tobytes())
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["cube"] = CUBE
    other = str(tmp_path / "other.h5")

    def link(file: Any) -> None:
        file["cube"] = h5py.ExternalLink(other, "/cube")

    def deep(file: Any) -> None:
        file["cube"] = CUBE
        file["a/b/c"] = h5py.ExternalLink(other, "/cube")

    def storage(file: Any) -> None:
        file.create_dataset("cube", (4, 5, 3), "u2", external=[(str(tmp_path / "secret"), 0, CUBE.nbytes)])

    def virtual(file: Any) -> None:
        layout = h5py.VirtualLayout((4, 5, 3), "u2")
        layout[:] = h5py.VirtualSource(other, "cube", (4, 5, 3))
        file.create_virtual_dataset("cube", layout)

    for build in (link, deep, storage, virtual):
        assert _refused(_hdf5(build)) == "unsafe", build.__name__


def test_hdf5_loops_lies_and_bombs_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def loop(file: Any) -> None:
        file["a/b"] = file["/"]

    def hollow(file: Any) -> None:
        file.create_dataset("cube", (2**20, 2**20, 7), "f8", chunks=(64, 64, 7))

    def chunk(file: Any) -> None:
        file.create_dataset("cube", (2**10, 2**10, 2**7), "f8", chunks=(2**10, 2**10, 2**7), compression=1)

    def many(file: Any) -> None:
        for i in range(60):
            file.create_group(f"g{i}")

    assert _refused(_hdf5(loop)) == "unsupported"
    assert _refused(_hdf5(hollow)) == "corrupt"
    assert _refused(_hdf5(chunk)) == "too-large"
    assert _refused(_hdf5(many)) == "unsupported"
    monkeypatch.setattr("modalities.hyperspectral.readers.hdf5.MAX_OBJECTS", 50)
    assert _refused(_hdf5(many)) == "too-large"


def test_a_soft_link_is_not_followed(tmp_path: Path) -> None:
    def soft(file: Any) -> None:
        file["cube"] = CUBE
        file["larger"] = h5py.SoftLink("/nowhere/at/all")

    _take(_hdf5(soft))


def _tiff(**changes: Any) -> bytes:
    """A hand-made little-endian TIFF of one uncompressed strip."""
    tags = {256: 5, 257: 4, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 4, 279: 20}
    tags |= {int(code[1:]): value for code, value in changes.items() if code[0] == "t"}
    table = b"".join(struct.pack("<HHII", code, 4, 1, value) for code, value in sorted(tags.items()))
    start = 8 + 20
    return (
        struct.pack("<2sHI", b"II", 42, start)
        + bytes(range(20))
        + struct.pack("<H", len(tags))
        + table
        + struct.pack("<I", changes.get("next", 0))
    )


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"t256": 0}, "empty"),
        ({"t256": 2**31}, "too-large"),
        ({"t257": 2**31, "t278": 1}, "corrupt"),
        ({"t257": 400, "t278": 400, "t256": 4_000_000}, "too-large"),
        ({"t273": 2**31}, "truncated"),
        ({"t279": 2**31}, "truncated"),
        ({"t277": 65535}, "too-large"),
        ({"t258": 12}, "unsupported"),
        ({"t259": 34712}, "unsupported"),
        ({"next": 28}, "corrupt"),
        ({"next": 10_000}, "truncated"),
    ],
)
def test_lying_tiff_directories_are_refused(changes: dict[str, int], reason: str) -> None:
    _take(Raw(name="s.tif", content=_tiff()))
    assert _refused(Raw(name="s.tif", content=_tiff(**changes))) == reason


def test_entities_in_tiff_metadata_are_refused(tmp_path: Path) -> None:
    with rasterio.open(
        tmp_path / "s.tif", "w", driver="GTiff", width=5, height=4, count=3, dtype="uint8", crs="EPSG:4326",
        transform=rasterio.Affine(1, 0, 9, 0, -1, 9),
    ) as dataset:  # fmt: skip
        dataset.update_tags(wavelength_units="nm", padding="x" * 40)
    data = (tmp_path / "s.tif").read_bytes()
    mark = b"<GDALMetadata>"
    bomb = b'<!DOCTYPE a [<!ENTITY b "c">]><GDALMetadata>'
    start = data.index(mark)
    evil = data[:start] + bomb + data[start + len(bomb) :]
    assert _refused(Raw(name="s.tif", content=evil)) == "unsafe"


def test_a_file_beside_a_tiff_is_not_read(tmp_path: Path) -> None:
    raw = _samples()["tif"]
    (tmp_path / "s.tif").write_bytes(raw.read())
    (tmp_path / "s.tif.aux.xml").write_text("<PAMDataset><SRS>EPSG:4326</SRS></PAMDataset>")
    path = Raw(name="s.tif", content=tmp_path / "s.tif")
    assert str(MODALITY.decode(MODALITY.pack(path, MODALITY.probe(path)))["crs"]) == "EPSG:32633"


def test_objects_in_npy_and_npz_are_refused() -> None:
    np.save(out := BytesIO(), np.array([[[{}]]], object))
    assert _refused(Raw(name="s.npy", content=out.getvalue())) == "unsafe"
    np.savez(out := BytesIO(), cube=CUBE, extra=np.array([{}], object))
    assert _refused(Raw(name="s.npz", content=out.getvalue())) == "unsafe"


def test_a_zip_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed(out := BytesIO(), cube=np.zeros((100, 100, 40), np.float64))
    raw = Raw(name="s.npz", content=out.getvalue())
    assert raw.size < 2**13
    _take(raw)
    monkeypatch.setattr("modalities.base.MAX_DECODED_BYTES", 2**20)
    MODALITY.probe(raw)  # too large to decode, not to cut
    assert _refused(raw) == "too-large"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"codecs": [{"name": "numcodecs.pickle"}]}, "unsupported"),
        ({"data_type": "|O"}, "unsafe"),
        ({"shape": [2**40, 5, 3]}, "too-large"),
        (
            {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2**20, 2**20, 3]}}},
            "too-large",
        ),
        ({"storage_transformers": [{"name": "x"}]}, "unsupported"),
        ({"zarr_format": 9}, "unsupported"),
    ],
)
def test_zarr_metadata_is_held_to_the_allow_list(change: dict[str, Any], reason: str) -> None:
    raw = _samples()["zarr"]
    about = {**json.loads(raw.companion("zarr.json").read()), **change}
    companions = {**raw.companions, "zarr.json": json.dumps(about).encode()}
    assert _refused(Raw(name=raw.name, content=b"", companions=companions)) == reason


def test_zarr_2_object_codecs_are_refused() -> None:
    about = {"zarr_format": 2, "shape": [2, 2, 2], "chunks": [2, 2, 2], "dtype": "<u2", "order": "C"}
    for change, reason in (
        ({"compressor": {"id": "pickle"}}, "unsupported"),
        ({"compressor": None, "filters": [{"id": "pickle"}]}, "unsupported"),
        ({"dtype": "|O", "compressor": None}, "unsafe"),
    ):
        content = json.dumps({**about, **change}).encode()
        assert _refused(Raw(name="s.zarr/", content=b"", companions={".zarray": content})) == reason


@pytest.mark.parametrize("name", ["../zarr.json", "/etc/x", "a/../../b"])
def test_a_packed_zarr_stays_in_its_folder(name: str) -> None:
    with ZipFile(out := BytesIO(), "w") as archive:
        archive.writestr(name, b"{}")
    with pytest.raises(BadSample) as caught:
        MODALITY.decode({"zarr.zip": out.getvalue()})
    assert caught.value.reason == "unsafe"


def test_a_scene_too_large_to_decode_is_probed_and_cut(tmp_path: Path) -> None:
    height = MAX_DECODED_BYTES // (1000 * 10 * 4) + 1
    with (tmp_path / "s.img").open("wb") as body:
        body.truncate(height * 1000 * 10 * 4)
    header = f"ENVI\nsamples = 1000\nlines = {height}\nbands = 10\ndata type = 4\ninterleave = bsq\n"
    raw = Raw(name="s.hdr", content=header.encode(), companions={"s.img": tmp_path / "s.img"})
    meta = MODALITY.probe(raw)
    cut = MODALITY.cuts["tiles"]
    pieces = cut.plan(raw, meta, size=500)
    assert len(pieces) == 2 * -(-height // 500)
    assert MODALITY.decode(cut.extract(raw, meta, pieces[-2].spec))["cube"].shape[1:] == (500, 10)
