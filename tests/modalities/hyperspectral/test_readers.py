"""Files written by other libraries give the values those libraries read back."""

import warnings
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import h5py
import netCDF4
import numpy as np
import pytest
import rasterio
import scipy.io
import tifffile
import zarr
from numpy.typing import NDArray
from spectral.io import envi

from modalities.base import Arrays, BadSample, Raw
from modalities.hyperspectral import MODALITY

Ingest = Callable[[Path], Arrays]
NM = np.linspace(400, 2500, 7)
PLACE = rasterio.Affine(30, 0, 500_000, 0, -20, 4_000_000)


def _save_envi(path: Path, cube: NDArray[Any], **options: Any) -> NDArray[Any]:
    about = {
        "wavelength": list(NM / 1000),
        "wavelength units": "Micrometers",
        "fwhm": [0.01] * 7,
        "bbl": [1, 1, 0, 1, 1, 1, 1],
        "data ignore value": 3,
        "reflectance scale factor": 10000,
        "map info": "{UTM, 1, 1, 500000, 4000000, 30, 20, 33, South, WGS-84, units=Meters}".strip("{}").split(
            ", "
        ),
    }
    envi.save_image(str(path), cube, metadata=about, force=True, **options)
    return np.asarray(envi.open(str(path)).load(dtype=cube.dtype, scale=False))


@pytest.mark.parametrize("interleave", ["bil", "bip", "bsq"])
@pytest.mark.parametrize("extension", ["img", "dat", "raw", ""])
def test_envi_equals_spectral(
    tmp_path: Path, cube: NDArray[np.uint16], ingest: Ingest, interleave: str, extension: str
) -> None:
    ours = _save_envi(tmp_path / "s.hdr", cube, interleave=interleave, ext=extension)
    arrays = ingest(tmp_path / "s.hdr")
    np.testing.assert_array_equal(arrays["cube"], ours)
    np.testing.assert_array_equal(arrays["cube"], cube)
    np.testing.assert_allclose(arrays["wavelengths"], NM, rtol=1e-6)
    np.testing.assert_allclose(arrays["fwhm"], 10)
    assert arrays["bad_bands"].tolist() == [False, False, True, False, False, False, False]
    assert float(arrays["nodata"]) == 3
    assert float(arrays["scale"]) == pytest.approx(1e-4)
    assert str(arrays["crs"]) == "EPSG:32733"
    assert arrays["affine"].tolist() == list(PLACE[:6])


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "f4", "f8", "c8", "c16", "u2", "u4", "i8", "u8"])
def test_envi_reads_every_type_in_both_orders(
    tmp_path: Path, cube: NDArray[np.uint16], ingest: Ingest, dtype: str, order: int
) -> None:
    values = cube.astype(dtype) * (1 + 2j if dtype[0] == "c" else 1)
    values = values.astype(dtype)
    envi.save_image(str(tmp_path / "s.hdr"), values, dtype=dtype, byteorder=order, force=True)
    arrays = ingest(tmp_path / "s.hdr")
    assert arrays["cube"].dtype == np.dtype(dtype)
    np.testing.assert_array_equal(arrays["cube"], values)


@pytest.mark.parametrize(
    ("old", "new"), [("units=Meters", "units=Meters, rotation=12.5"), ("UTM, 1, 1,", "UTM, 2.5, 3.5,")]
)
def test_envi_map_info_equals_gdals_reading(
    tmp_path: Path, cube: NDArray[np.uint16], ingest: Ingest, old: str, new: str
) -> None:
    _save_envi(tmp_path / "s.hdr", cube)
    text = (tmp_path / "s.hdr").read_text().replace(" , ", ", ")
    assert text.count(old) == 1
    (tmp_path / "s.hdr").write_text(text.replace(old, new))
    beside = rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="FALSE")  # GDAL has to see the header
    with beside, rasterio.open(tmp_path / "s.img", driver="ENVI") as dataset:
        np.testing.assert_allclose(ingest(tmp_path / "s.hdr")["affine"], dataset.transform[:6], rtol=1e-9)


@pytest.mark.parametrize(
    "options",
    [
        {"compress": "deflate", "predictor": 2},
        {"compress": "lzw", "interleave": "band"},
        {"compress": "zstd", "tiled": True, "blockxsize": 16, "blockysize": 16, "BIGTIFF": "YES"},
        {"ENDIANNESS": "BIG"},
        {"driver": "COG", "compress": "deflate"},
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_geotiff_equals_rasterio(
    tmp_path: Path, cube: NDArray[np.uint16], ingest: Ingest, options: dict[str, Any]
) -> None:
    path = tmp_path / "s.tif"
    profile = {
        "driver": "GTiff",
        "width": 11,
        "height": 9,
        "count": 7,
        "dtype": "uint16",
        "nodata": 3,
        **options,
    }
    with rasterio.open(path, "w", crs="EPSG:32733", transform=PLACE, **profile) as dataset:
        dataset.write(cube.transpose(2, 0, 1))
        dataset.scales, dataset.offsets = [1e-4] * 7, [0.5] * 7
        for band, nm in enumerate(NM, start=1):
            dataset.update_tags(band, ns="IMAGERY", CENTRAL_WAVELENGTH_UM=str(nm / 1000), FWHM_UM="0.01")
    arrays = ingest(path)
    with rasterio.open(path) as dataset:
        np.testing.assert_array_equal(arrays["cube"], dataset.read().transpose(1, 2, 0))
        assert arrays["affine"].tolist() == list(dataset.transform[:6])
        assert str(arrays["crs"]) == dataset.crs.to_string()
        np.testing.assert_allclose(arrays["scale"], dataset.scales)
        np.testing.assert_allclose(arrays["offset"], dataset.offsets)
        assert float(arrays["nodata"]) == dataset.nodata
    np.testing.assert_allclose(arrays["wavelengths"], NM, rtol=1e-9)
    np.testing.assert_allclose(arrays["fwhm"], 10)


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u4", "i4", "f4", "f8", "c8", "c16", "u8", "i8"])
def test_geotiff_keeps_the_stored_type(tmp_path: Path, ingest: Ingest, dtype: str) -> None:
    values = np.arange(60).reshape(4, 5, 3).astype(dtype)
    profile = {"driver": "GTiff", "width": 5, "height": 4, "count": 3, "dtype": values.dtype.name}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(tmp_path / "s.tif", "w", **profile) as dataset:
            dataset.write(values.transpose(2, 0, 1))
    cube = ingest(tmp_path / "s.tif")["cube"]
    assert cube.dtype == values.dtype
    np.testing.assert_array_equal(cube, values)


def test_geotiff_of_pixel_points_lies_half_a_pixel_off_as_gdal_says(tmp_path: Path, ingest: Ingest) -> None:
    profile = {"driver": "GTiff", "width": 5, "height": 4, "count": 2, "dtype": "uint8", "transform": PLACE}
    with rasterio.open(tmp_path / "s.tif", "w", crs="EPSG:32733", **profile) as dataset:
        dataset.update_tags(AREA_OR_POINT="Point")
    with rasterio.open(tmp_path / "s.tif") as dataset:
        assert ingest(tmp_path / "s.tif")["affine"].tolist() == list(dataset.transform[:6])


def test_geotiff_with_a_crs_of_its_own_keeps_its_wkt(tmp_path: Path, ingest: Ingest) -> None:
    crs = rasterio.CRS.from_proj4("+proj=laea +lat_0=10 +lon_0=20 +datum=WGS84")
    profile = {"driver": "GTiff", "width": 5, "height": 4, "count": 2, "dtype": "uint8", "transform": PLACE}
    with rasterio.open(tmp_path / "s.tif", "w", crs=crs, **profile):
        pass
    with rasterio.open(tmp_path / "s.tif") as dataset:
        assert rasterio.CRS.from_wkt(str(ingest(tmp_path / "s.tif")["crs"])) == dataset.crs


def test_tiff_written_by_tifffile_is_read(tmp_path: Path, cube: NDArray[np.uint16], ingest: Ingest) -> None:
    tifffile.imwrite(tmp_path / "s.tif", cube, photometric="minisblack", planarconfig="contig")
    np.testing.assert_array_equal(ingest(tmp_path / "s.tif")["cube"], cube)


def test_pages_are_refused_not_dropped(tmp_path: Path, cube: NDArray[np.uint16], ingest: Ingest) -> None:
    tifffile.imwrite(tmp_path / "s.tif", cube.transpose(2, 0, 1), photometric="minisblack")
    with pytest.raises(BadSample, match=r"unsupported: .*7 pages"):
        ingest(tmp_path / "s.tif")


def test_hdf5_finds_cube_and_wavelengths(tmp_path: Path, cube: NDArray[np.uint16], ingest: Ingest) -> None:
    with h5py.File(tmp_path / "s.h5", "w") as file:
        data = file.create_dataset(
            "product/reflectance", data=cube.transpose(2, 0, 1), chunks=(7, 4, 4), compression=4
        )
        data.attrs["_FillValue"], data.attrs["scale_factor"] = np.uint16(3), 10000.0
        file["product/wavelengths"] = NM / 1000
        file["product/wavelengths"].attrs["units"] = "um"
        file["product/fwhm"] = np.full(7, 0.01)
        file["product/good_bands"] = np.array([1, 1, 0, 1, 1, 1, 1])
        file["elsewhere/wavelengths"] = np.arange(7.0)
        file["labels"] = np.arange(99, dtype=np.int16).reshape(9, 11)
        file["product/Map_Info"] = "UTM, 1, 1, 500000, 4000000, 30, 20, 33, South, WGS-84, units=Meters"
    arrays = ingest(tmp_path / "s.h5")
    np.testing.assert_array_equal(arrays["cube"], cube)
    np.testing.assert_allclose(arrays["wavelengths"], NM)
    np.testing.assert_allclose(arrays["fwhm"], 10)
    assert np.flatnonzero(arrays["bad_bands"]).tolist() == [2]
    assert float(arrays["nodata"]) == 3
    assert float(arrays["scale"]) == 1e-4
    assert str(arrays["crs"]) == "EPSG:32733"
    assert arrays["affine"].tolist() == list(PLACE[:6])
    np.testing.assert_array_equal(arrays["segmentation"], np.arange(99).reshape(9, 11))


def test_prisma_halves_become_one_cube(tmp_path: Path, ingest: Ingest) -> None:
    rng = np.random.default_rng(1)
    vnir, swir = (rng.integers(0, 65535, (9, bands, 11)).astype(np.uint16) for bands in (4, 6))
    with h5py.File(tmp_path / "s.he5", "w") as file:
        fields = "HDFEOS/SWATHS/PRS_L2D_HCO/Data Fields"
        file[f"{fields}/VNIR_Cube"], file[f"{fields}/SWIR_Cube"] = vnir, swir
        file.attrs["List_Cw_Vnir"] = np.array([0, 900.0, 700, 500], np.float32)
        file.attrs["List_Fwhm_Vnir"] = np.full(4, 12, np.float32)
        file.attrs["List_Cw_Swir"] = np.linspace(2500, 1000, 6).astype(np.float32)
        file.attrs["List_Fwhm_Swir"] = np.full(6, 14, np.float32)
        file.attrs["L2ScaleVnirMin"], file.attrs["L2ScaleVnirMax"] = np.float32(0), np.float32(0.5)
        file.attrs["L2ScaleSwirMin"], file.attrs["L2ScaleSwirMax"] = np.float32(0.25), np.float32(0.75)
    arrays = ingest(tmp_path / "s.he5")
    np.testing.assert_array_equal(arrays["cube"], np.concatenate([vnir, swir], 1).transpose(0, 2, 1))
    assert arrays["wavelengths"].tolist() == [0, 900, 700, 500, *np.linspace(2500, 1000, 6)]
    assert arrays["fwhm"].tolist() == [12] * 4 + [14] * 6
    assert np.flatnonzero(arrays["bad_bands"]).tolist() == [0]
    assert arrays["offset"].tolist() == [0] * 4 + [0.25] * 6
    np.testing.assert_allclose(arrays["scale"], 0.5 / 65535)


@pytest.mark.parametrize(
    "format", ["NETCDF4", "NETCDF3_CLASSIC", "NETCDF3_64BIT_OFFSET", "NETCDF3_64BIT_DATA"]
)
@pytest.mark.parametrize("dims", [("band", "y", "x"), ("y", "x", "band"), ("band", "x", "y")])
@pytest.mark.parametrize("records", [False, True])
def test_netcdf_equals_netcdf4(
    tmp_path: Path,
    cube: NDArray[np.uint16],
    ingest: Ingest,
    format: str,
    dims: tuple[str, ...],
    records: bool,
) -> None:
    values = cube.astype(np.int16)
    sizes = {"y": 9, "x": 11, "band": 7}
    with netCDF4.Dataset(tmp_path / "s.nc", "w", format=format) as file:
        for i, dim in enumerate(dims):
            file.createDimension(dim, None if records and i == 0 else sizes[dim])
        for name, of, data in (
            ("wavelength", "band", NM),
            ("x", "x", 500_015 + 30.0 * np.arange(11)),
            ("y", "y", 3_999_990 - 20.0 * np.arange(9)),
        ):
            file.createVariable(name, "f8", (of,))[:] = data
        file["wavelength"].units = "nm"
        data = file.createVariable("radiance", "i2", dims, fill_value=-9)
        data.set_auto_maskandscale(False)
        data.scale_factor, data.add_offset, data.grid_mapping = 0.01, 2.0, "crs"
        data[:] = values.transpose(["yx".find(d) if d != "band" else 2 for d in dims])
        file.createVariable("crs", "i4", ()).crs_wkt = rasterio.CRS.from_epsg(32733).to_wkt()
    arrays = ingest(tmp_path / "s.nc")
    np.testing.assert_array_equal(arrays["cube"], values)
    with netCDF4.Dataset(tmp_path / "s.nc") as file:
        back = file["radiance"][:].data
    order = [dims.index(d) for d in ("y", "x", "band")]
    np.testing.assert_allclose(arrays["cube"] * arrays["scale"] + arrays["offset"], back.transpose(order))
    np.testing.assert_array_equal(arrays["wavelengths"], NM)
    assert float(arrays["nodata"]) == -9
    assert arrays["affine"].tolist() == list(PLACE[:6])
    assert rasterio.CRS.from_wkt(str(arrays["crs"])) == rasterio.CRS.from_epsg(32733)


@pytest.mark.parametrize("packed", [False, True])
def test_mat_cube_equals_scipy(
    tmp_path: Path, cube: NDArray[np.uint16], ingest: Ingest, packed: bool
) -> None:
    labels = np.arange(99).reshape(9, 11).astype(np.uint8)
    content = {
        "cube": cube,
        "gt": labels,
        "wavelength": NM[:, None],
        "s": {"a": 1},
        "c": np.array([[1], "x"], object),
    }
    scipy.io.savemat(tmp_path / "s.mat", content, do_compression=packed)
    arrays = ingest(tmp_path / "s.mat")
    np.testing.assert_array_equal(arrays["cube"], scipy.io.loadmat(tmp_path / "s.mat")["cube"])
    np.testing.assert_array_equal(arrays["segmentation"], labels)
    np.testing.assert_array_equal(arrays["wavelengths"], NM)


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u4", "i4", "i8", "u8", "f4", "f8", "c16"])
def test_mat_reads_every_type(tmp_path: Path, ingest: Ingest, dtype: str) -> None:
    values = (np.arange(60).reshape(4, 5, 3) * (1 + 1j if dtype[0] == "c" else 1)).astype(dtype)
    scipy.io.savemat(tmp_path / "s.mat", {"cube": values})
    cube = ingest(tmp_path / "s.mat")["cube"]
    assert cube.dtype == values.dtype
    np.testing.assert_array_equal(cube, values)


def test_mat_73_is_turned_back(tmp_path: Path, cube: NDArray[np.uint16], ingest: Ingest) -> None:
    with h5py.File(tmp_path / "s.mat", "w", userblock_size=512) as file:
        file["cube"] = cube.transpose(2, 1, 0)
        file["wavelength"] = NM[None]
    with (tmp_path / "s.mat").open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")
    arrays = ingest(tmp_path / "s.mat")
    np.testing.assert_array_equal(arrays["cube"], cube)
    np.testing.assert_array_equal(arrays["wavelengths"], NM)


def test_npy_in_both_orders(tmp_path: Path, cube: NDArray[np.uint16], ingest: Ingest) -> None:
    for values in (cube, np.asfortranarray(cube), cube.astype(">i4")):
        np.save(tmp_path / "s.npy", values)
        np.testing.assert_array_equal(ingest(tmp_path / "s.npy")["cube"], values)


def test_npz_of_numpy_is_read(tmp_path: Path, cube: NDArray[np.uint16], ingest: Ingest) -> None:
    labels = np.arange(99).reshape(9, 11)
    np.savez_compressed(tmp_path / "s.npz", cube=cube, wavelengths=NM, labels=labels, nodata=3)
    arrays = ingest(tmp_path / "s.npz")
    np.testing.assert_array_equal(arrays["cube"], cube)
    np.testing.assert_array_equal(arrays["segmentation"], labels)
    np.testing.assert_array_equal(arrays["wavelengths"], NM)


def test_our_container_is_plain_npz(tmp_path: Path, cube: NDArray[np.uint16]) -> None:
    (tmp_path / "s.npz").write_bytes(
        MODALITY.encode({"cube": cube, "crs": np.array("EPSG:4326")})["cube.npz"]
    )
    with np.load(tmp_path / "s.npz", allow_pickle=False) as file:
        np.testing.assert_array_equal(file["cube"], cube)
        assert str(file["crs"]) == "EPSG:4326"


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("group", [False, True])
def test_zarr_equals_zarr(
    tmp_path: Path, cube: NDArray[np.uint16], ingest: Ingest, version: Any, group: bool
) -> None:
    path = tmp_path / "s.zarr"
    options: dict[str, Any] = {"chunks": (4, 4, 7), "zarr_format": version}
    if version == 3:
        options |= {"dimension_names": ["y", "x", "band"], "shards": (8, 8, 7)}
    if group:
        rest = {name: value for name, value in options.items() if name != "zarr_format"}
        root = zarr.open_group(path, mode="w", zarr_format=version)
        array = root.create_array("cube", shape=cube.shape, dtype=cube.dtype, **rest)
        root.create_array("wavelength", shape=(7,), dtype="f8")[:] = NM
    else:
        array = zarr.create_array(path, shape=cube.shape, dtype=cube.dtype, **options)
        array.attrs["wavelength"] = NM.tolist()
    array[:] = cube
    array.attrs["_FillValue"] = 3
    arrays = ingest(path)
    np.testing.assert_array_equal(arrays["cube"], cube)
    np.testing.assert_array_equal(arrays["wavelengths"], NM)
    assert float(arrays["nodata"]) == 3


def test_zarr_chunks_are_packed_unchanged(tmp_path: Path, cube: NDArray[np.uint16]) -> None:
    zarr.create_array(tmp_path / "s.zarr", data=cube)
    inside = {
        str(f.relative_to(tmp_path / "s.zarr")): f for f in (tmp_path / "s.zarr").rglob("*") if f.is_file()
    }
    raw = Raw(name="s.zarr/", content=b"", companions=inside)
    files = MODALITY.pack(raw, MODALITY.probe(raw))
    assert files == MODALITY.pack(raw, MODALITY.probe(raw))
    with ZipFile(BytesIO(files["zarr.zip"])) as archive:
        for name in raw.companions:
            assert archive.read(name) == (tmp_path / "s.zarr" / name).read_bytes()
