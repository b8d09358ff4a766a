"""Codec, cuts, transforms, quality, preview, synthesis and preparation of cubes."""

import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import scipy.io
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image

from modalities.base import Arrays, BadSample, Raw
from modalities.hyperspectral import MODALITY
from modalities.hyperspectral.materials import NAMES, library

M = MODALITY
TILES = M.cuts["tiles"]


def _full(dtype: str = "uint16", height: int = 9, width: int = 11, bands: int = 7) -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(5)
    return {
        "cube": (rng.random((height, width, bands)) * 1000).astype(dtype),
        "wavelengths": np.linspace(400, 2500, bands),
        "fwhm": np.full(bands, 10.0),
        "bad_bands": np.arange(bands) == 2,
        "scale": np.array(1e-4),
        "offset": np.linspace(0, 1, bands),
        "nodata": np.array(3.0),
        "crs": np.array("EPSG:32733"),
        "affine": np.array([30.0, 0, 500_000, 0, -20, 4_000_000]),
        "segmentation": rng.integers(0, 5, (height, width)).astype(np.int32),
        "abundances": rng.random((height, width, 3)),
        "endmembers": rng.random((bands, 3)),
    }


def _same(one: Arrays, other: Arrays) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert one[name].dtype == other[name].dtype, name
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


@given(
    cube=hnp.arrays(
        st.sampled_from(["?", "u1", "i2", "u8", "f2", "f4", "f8", "c8"]),
        hnp.array_shapes(min_dims=3, max_dims=3, max_side=5),
        fill=st.nothing(),
    ),
    low=st.integers(-3, 0),
    high=st.integers(1, 2**17),
)
def test_nothing_is_lost_on_the_way_through_bytes(cube: NDArray[Any], low: int, high: int) -> None:
    rng = np.random.default_rng(0)
    arrays = {"cube": cube, "segmentation": rng.integers(low, high, cube.shape[:2]).astype(np.int32)}
    files = M.encode(arrays)
    assert ("seg.png" in files) == (
        arrays["segmentation"].min() >= 0 and arrays["segmentation"].max() <= 65535
    )
    _same(M.decode(files), arrays)
    assert M.encode(M.decode(files)) == files


def test_every_field_survives_and_the_mask_is_a_png_others_read() -> None:
    arrays = _full()
    files = M.encode(arrays)
    _same(M.decode(files), arrays)
    with Image.open(BytesIO(files["seg.png"])) as image:
        np.testing.assert_array_equal(np.asarray(image), arrays["segmentation"])


def test_a_mask_of_another_size_is_refused() -> None:
    files = {**M.encode(_full()), "seg.png": M.encode(_full(width=5))["seg.png"]}
    with pytest.raises(BadSample, match=r"seg.png: want grey or palette \(9, 11\)"):
        M.decode(files)


def test_files_without_a_cube_name_what_was_wanted() -> None:
    with pytest.raises(LookupError, match=r"want one of .*tif.* got \['cls'\]"):
        M.decode({"cls": b"x"})


@pytest.mark.parametrize("edge", ["keep", "drop"])
@pytest.mark.parametrize(("size", "overlap"), [(4, 0), (4, 1), (50, 0), (3, 0), (5, 4)])
def test_tiles_cover_the_scene_and_equal_its_windows(size: int, overlap: int, edge: str) -> None:
    arrays = _full()
    files = M.encode({name: value for name, value in arrays.items() if name != "segmentation"})
    raw = Raw(
        name="flight/s.npz", content=files["cube.npz"], companions={"s.seg.png": M.encode(arrays)["seg.png"]}
    )
    options = {"size": size, "overlap": overlap, "edge": edge}
    meta = M.probe(raw)
    pieces = TILES.plan(raw, meta, **options)
    assert len({piece.suffix for piece in pieces}) == len(pieces)
    seen = np.zeros((9, 11), int)
    for piece in pieces:
        files = TILES.extract(raw, meta, json.loads(json.dumps(piece.spec)), **options)
        tile, where = M.decode(files), json.loads(files["tile.json"])
        y, x, height, width = where["y"], where["x"], where["height"], where["width"]
        rows, columns = slice(y, y + height), slice(x, x + width)
        for name in ("cube", "segmentation", "abundances"):
            np.testing.assert_array_equal(tile[name], arrays[name][rows, columns])
        for name in ("wavelengths", "crs", "scale", "endmembers"):
            np.testing.assert_array_equal(tile[name], arrays[name])
        corner = rasterio.Affine(*arrays["affine"]) @ rasterio.Affine.translation(x, y)
        assert tile["affine"].tolist() == list(corner[:6])
        assert abs(piece.num_bytes - sum(map(len, files.values()))) < 8192
        seen[rows, columns] += 1
        assert edge == "keep" or (height, width) == (size, size)
    if edge == "keep":
        assert seen.min() == 1
    if overlap == 0:
        assert seen.max(initial=0) <= 1


def test_the_mask_of_an_envi_scene_is_cut_along(tmp_path: Path) -> None:
    header = b"ENVI\nsamples = 4\nlines = 3\nbands = 2\ndata type = 1\ninterleave = bsq\n"
    mask = M.encode(
        {"cube": np.zeros((3, 4, 1)), "segmentation": np.arange(12, dtype=np.int32).reshape(3, 4)}
    )
    raw = Raw(name="s.hdr", content=header, companions={"s.bsq": bytes(24), "s.seg.png": mask["seg.png"]})
    files = TILES.extract(raw, M.probe(raw), {"y": 1, "x": 2, "height": 2, "width": 2})
    assert M.decode(files)["segmentation"].tolist() == [[6, 7], [10, 11]]


def test_a_tile_without_data_is_refused_when_asked() -> None:
    cube = np.zeros((4, 8, 2), np.uint8)
    cube[:, :3] = 1
    raw = Raw(name="s.npz", content=M.encode({"cube": cube, "nodata": np.array(0.0)})["cube.npz"])
    meta = M.probe(raw)
    left, right = TILES.plan(raw, meta, size=4)
    TILES.extract(raw, meta, left.spec, min_valid=0.75)
    with pytest.raises(BadSample, match=r"nodata: 75\.0%"):
        TILES.extract(raw, meta, left.spec, min_valid=0.76)
    with pytest.raises(BadSample, match=r"nodata: 0\.0%"):
        TILES.extract(raw, meta, right.spec, min_valid=0.01)
    TILES.extract(raw, meta, right.spec)


@pytest.mark.parametrize("options", [{"size": 0}, {"size": 4, "overlap": 4}, {"edge": "x"}, {"min_valid": 2}])
def test_impossible_tiles_say_what_is_wanted(options: dict[str, Any]) -> None:
    raw = Raw(name="s.npz", content=M.encode(_full())["cube.npz"])
    with pytest.raises(ValueError, match="want size >= 1, 0 <= overlap < size"):
        TILES.plan(raw, M.probe(raw), **options)


def test_a_window_of_a_large_file_reads_only_its_part(tmp_path: Path) -> None:
    """The body is sparse and 40 GB: reading it whole would not end."""
    (tmp_path / "s.dat").touch()
    with (tmp_path / "s.dat").open("r+b") as body:
        body.truncate(10**5 * 10**3 * 200 * 2)
    header = b"ENVI\nsamples = 1000\nlines = 100000\nbands = 200\ndata type = 12\ninterleave = bil\n"
    raw = Raw(name="s.hdr", content=header, companions={"s.dat": tmp_path / "s.dat"})
    files = TILES.extract(raw, M.probe(raw), {"y": 99_990, "x": 900, "height": 10, "width": 100})
    assert M.decode(files)["cube"].shape == (10, 100, 200)


def test_bands_are_chosen_by_wavelength_by_number_and_without_the_bad() -> None:
    arrays = _full()
    bands = M.transforms["bands"]
    chosen = bands(arrays, ranges=[[400, 1100], [2400, 2600]])
    assert chosen["wavelengths"].tolist() == [400, 750, 2500]  # 1100 is bad
    np.testing.assert_array_equal(chosen["cube"], arrays["cube"][:, :, [0, 1, 6]])
    np.testing.assert_array_equal(chosen["offset"], arrays["offset"][[0, 1, 6]])
    np.testing.assert_array_equal(chosen["endmembers"], arrays["endmembers"][[0, 1, 6]])
    assert float(chosen["scale"]) == 1e-4
    assert bands(arrays, indices=[2, -1], drop_bad=False)["wavelengths"].tolist() == [1100, 2500]
    with pytest.raises(BadSample, match="no band of 7 is left"):
        bands(arrays, ranges=[[1, 2]])
    with pytest.raises(BadSample, match="the cube names none"):
        bands({"cube": arrays["cube"]}, ranges=[[1, 2]])
    _same(M.decode(M.encode(chosen)), chosen)


def test_scale_gives_reflectance_and_marks_what_is_not_there() -> None:
    arrays = _full()
    arrays["cube"][0, 0] = 3
    scaled = M.transforms["scale"](arrays)
    assert scaled["cube"].dtype == np.float32
    assert np.isnan(scaled["cube"][0, 0]).all()
    expected = arrays["cube"] * 1e-4 + arrays["offset"]
    valid = arrays["cube"] != 3
    np.testing.assert_allclose(scaled["cube"][valid], expected[valid], rtol=1e-6)
    assert not {"scale", "offset"} & scaled.keys()
    assert np.isnan(scaled["nodata"])
    with pytest.raises(BadSample, match="give factor="):
        M.transforms["scale"]({"cube": arrays["cube"]})
    by_hand = M.transforms["scale"]({"cube": arrays["cube"]}, factor=0.01)["cube"]
    np.testing.assert_allclose(by_hand, arrays["cube"] * 0.01, rtol=1e-6)


def test_crop_moves_the_corner() -> None:
    arrays = _full()
    part = M.transforms["crop"](arrays, y=2, x=3, height=4, width=5)
    np.testing.assert_array_equal(part["cube"], arrays["cube"][2:6, 3:8])
    assert part["affine"].tolist() == [30, 0, 500_090, 0, -20, 3_999_960]
    with pytest.raises(BadSample, match="want a crop inside 9 x 11"):
        M.transforms["crop"](arrays, y=6, x=3, height=4, width=5)


def test_quality_finds_what_was_put_in() -> None:
    rng = np.random.default_rng(0)
    clean = np.full((64, 64, 5), 100.0, np.float32) * np.linspace(1, 2, 5, dtype=np.float32)
    texture = rng.normal(0, 1, (64, 64, 1)).astype(np.float32)
    noisy = clean + rng.normal(0, 2, clean.shape).astype(np.float32)
    noisy[:8] = np.nan
    noisy[8:16] = -1
    found = M.quality({"cube": noisy, "nodata": np.array(-1.0), "wavelengths": np.linspace(400, 900, 5)})
    assert found["nan_share"] == pytest.approx(0.125)
    assert found["nodata_share"] == pytest.approx(0.125)
    assert found["snr"] == pytest.approx(75, rel=0.1)  # median band: 150 / 2
    assert abs(found["band_correlation"]) < 0.1
    assert (found["wavelength_min_nm"], found["wavelength_max_nm"]) == (400, 900)
    assert M.quality({"cube": clean * (1 + texture)})["band_correlation"] > 0.99
    full = np.tile(np.arange(8, dtype=np.uint8), (4, 1))[:, :, None] // 4 * 255
    assert M.quality({"cube": full.astype(np.uint8)})["saturation"] == 0.5
    assert M.quality({"cube": np.full((3, 3, 2), np.nan)})["nan_share"] == 1


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 7, 2), (2, 2, 300), (3, 3, 1)])
@pytest.mark.parametrize("dtype", ["u1", "f4", "c8", "?"])
def test_any_cube_can_be_looked_at(shape: tuple[int, ...], dtype: str) -> None:
    cube = (np.random.default_rng(0).random(shape) * 3).astype(dtype)
    arrays = {"cube": cube}
    json.dumps(M.quality(arrays), allow_nan=False)
    assert 0 <= M.fingerprint(arrays) < 2**64
    assert M.preview(arrays)["png"][:4] == b"\x89PNG"
    assert M.prepare(arrays, size=4)["cube"].shape == (shape[2], 4, 4)


def _distance(one: Arrays, other: Arrays) -> int:
    return (M.fingerprint(one) ^ M.fingerprint(other)).bit_count()


def test_fingerprint_is_near_for_near_duplicates_and_far_for_others() -> None:
    scenes = [M.decode(M.synth(seed)) for seed in range(12)]
    rng = np.random.default_rng(0)
    near = []
    for scene in scenes:
        cube = scene["cube"].astype(np.float32)
        near.append(_distance(scene, {**scene, "cube": cube * 1.1 + rng.normal(0, 5, cube.shape) + 20}))
        near.append(_distance(scene, {**scene, "cube": cube.repeat(2, 0).repeat(2, 1)}))
    far = [_distance(a, b) for i, a in enumerate(scenes) for b in scenes[:i]]
    assert max(near) <= 4
    assert np.median(far) > 16


def test_preview_shows_the_visible_bands_and_hides_no_data() -> None:
    arrays = _full(bands=50)
    arrays["cube"][:] = 500
    arrays["cube"][0, 0] = 3
    arrays["cube"][:5, 5:, np.abs(arrays["wavelengths"] - 640).argmin()] = 900  # red corner
    files = M.preview(arrays)
    with Image.open(BytesIO(files["png"])) as image:
        assert image.size == (11, 9)
        assert image.getpixel((0, 0))[3] == 0  # type: ignore[index]
        assert image.getpixel((8, 2)) == (255, 0, 0, 255)
        assert image.getpixel((1, 7)) == (0, 0, 0, 255)
    about = json.loads(files["json"])
    assert len(about["mean_spectrum"]) == 50
    assert about["mean_spectrum"][40] == pytest.approx(0.05 + arrays["offset"][40])
    blind = json.loads(M.preview({"cube": arrays["cube"]})["json"])
    assert blind["rgb_bands"] == [0, 25, 49]


def test_synthesis_depends_only_on_the_seed_and_says_what_it_is() -> None:
    assert M.synth(3) == M.synth(3)
    assert M.synth(3)["tif"] != M.synth(4)["tif"]
    files = M.synth(3)
    arrays = M.decode(files)
    assert arrays["cube"].shape == (24, 24, 40)
    assert {"wavelengths", "fwhm", "crs", "affine", "scale", "nodata", "segmentation"} <= arrays.keys()
    counts = np.bincount(arrays["segmentation"].ravel(), minlength=len(NAMES))
    assert files["cls"].decode() == NAMES[counts.argmax()]
    assert {M.synth(seed)["cls"].decode() for seed in range(60)} == set(NAMES)


def test_synthetic_labels_are_those_of_the_nearest_measured_spectrum() -> None:
    """The smallest spectral angle to all measured spectra finds the labels again, whatever the light."""
    nm, groups = library()
    kinds = np.repeat(np.arange(len(NAMES)), [len(group) for group in groups])
    right = []
    for seed in range(4):
        arrays = M.decode(M.synth(seed))
        ends = np.concatenate(groups)[:, np.searchsorted(nm, arrays["wavelengths"] - 1e-6)]
        ends /= np.linalg.norm(ends, axis=1, keepdims=True)
        nearest = (arrays["cube"].astype(float) @ ends.T).argmax(axis=2)
        right.append((kinds[nearest] == arrays["segmentation"]).mean())
    assert np.mean(right) > 0.5


def test_prepare_gives_one_shape_and_scales_by_what_is_known() -> None:
    arrays = M.decode(M.synth(1))
    ready = M.prepare(arrays, size=16)
    assert {name: (value.shape, value.dtype.name) for name, value in ready.items()} == {
        "cube": ((40, 16, 16), "float32"),
        "wavelengths": ((40,), "float32"),
        "segmentation": ((16, 16), "int64"),
    }
    centre = arrays["cube"][4:20, 4:20].transpose(2, 0, 1) * 1e-4
    np.testing.assert_allclose(ready["cube"], centre.clip(0, 1), atol=1e-6)
    np.testing.assert_array_equal(ready["segmentation"], arrays["segmentation"][4:20, 4:20])
    padded = M.prepare(arrays, size=32)
    assert (padded["cube"][:, :4] == 0).all()
    assert (padded["segmentation"][:4] == -1).all()
    np.testing.assert_allclose(padded["cube"][:, 8:24, 8:24], ready["cube"])


def test_prepare_scales_counts_of_unknown_scale_by_their_bright_end() -> None:
    cube = np.random.default_rng(0).integers(0, 4000, (40, 40, 3)).astype(np.uint16)
    ready = M.prepare({"cube": cube}, size=40)["cube"]
    top = np.percentile(cube, 99.5)
    np.testing.assert_allclose(ready, (cube / top).clip(0, 1).transpose(2, 0, 1), rtol=1e-5)
    floats = (cube / 4000).astype(np.float32)
    np.testing.assert_allclose(M.prepare({"cube": floats}, size=40)["cube"], floats.transpose(2, 0, 1))
    assert (M.prepare({"cube": cube}, size=40)["wavelengths"] == 0).all()


def test_prepare_hides_what_is_not_there() -> None:
    arrays = M.decode(M.synth(1))
    arrays = {**arrays, "cube": arrays["cube"].copy()}
    arrays["cube"][10, 12] = 0  # nodata
    ready = M.prepare(arrays, size=24)
    assert ready["segmentation"][10, 12] == -1
    assert (ready["cube"][:, 10, 12] == 0).all()


def test_prepare_takes_bands_by_number_and_by_wavelength() -> None:
    arrays = M.decode(M.synth(1))
    assert M.prepare(arrays, size=8, bands=5)["wavelengths"].shape == (5,)
    assert M.prepare(arrays, size=8, bands=64)["cube"].shape == (64, 8, 8)
    near = M.prepare(arrays, size=8, bands=[640.0, 550, 460])["wavelengths"]
    assert np.abs(near - [640, 550, 460]).max() < 30


def test_augmentation_is_seeded_varied_and_keeps_pixels_with_their_labels() -> None:
    arrays = M.decode(M.synth(2))
    # a cube that is its own label, so that a flip of one without the other would show
    own = {
        "cube": np.repeat(arrays["segmentation"][:, :, None], 6, 2) / 5.0 + 0.1,
        "segmentation": arrays["segmentation"],
    }
    found = [M.prepare(own, size=16, rng=np.random.default_rng(seed)) for seed in range(6)]
    again = [M.prepare(own, size=16, rng=np.random.default_rng(seed)) for seed in range(6)]
    for one, two in zip(found, again, strict=True):
        _same(one, two)
        brightest = one["cube"].max(axis=0)
        order = [brightest[one["segmentation"] == k].mean() for k in np.unique(one["segmentation"])]
        assert order == sorted(order)
        assert one["cube"].shape == (6, 16, 16)
        assert 0 <= one["cube"].min() <= one["cube"].max() <= 1
    assert len({one["cube"].tobytes() for one in found}) == 6


def test_prepare_does_not_change_its_input() -> None:
    arrays = _full()
    before = {name: value.copy() for name, value in arrays.items()}
    M.prepare(arrays, size=8, rng=np.random.default_rng(0))
    M.quality(arrays), M.fingerprint(arrays), M.preview(arrays)
    _same(arrays, before)


def test_jasper_ridge_equals_scipy(shared_data: Path, ingest: Callable[[Path], Arrays]) -> None:
    path = shared_data / "hyperspectral" / "jasperRidge2_R198.mat"
    arrays, truth = ingest(path), scipy.io.loadmat(path)
    np.testing.assert_array_equal(arrays["cube"], truth["Y"].reshape(198, 100, 100).transpose(2, 1, 0))
    np.testing.assert_array_equal(arrays["abundances"], truth["A"].reshape(4, 100, 100).transpose(2, 1, 0))
    np.testing.assert_array_equal(arrays["endmembers"], truth["M"])
    mixed = arrays["abundances"] @ arrays["endmembers"].T * 5000
    error = np.abs(mixed - arrays["cube"]).mean() / arrays["cube"].mean()
    turned = np.abs(mixed.transpose(1, 0, 2) - arrays["cube"]).mean() / arrays["cube"].mean()
    assert error < 0.2 < 0.5 < turned  # pixels, abundances and endmembers belong together
    labels = M.prepare(arrays, size=100)["segmentation"]
    np.testing.assert_array_equal(labels, arrays["abundances"].argmax(axis=2))
    assert set(np.unique(labels)) == {0, 1, 2, 3}


@pytest.mark.parametrize("name", ["hls_10band_224.tif", "landsat_rgb_utm.tif"])
def test_real_geotiffs_equal_rasterio(shared_data: Path, ingest: Callable[[Path], Arrays], name: str) -> None:
    path = shared_data / "hyperspectral" / name
    arrays = ingest(path)
    with rasterio.open(path) as dataset:
        np.testing.assert_array_equal(arrays["cube"], dataset.read().transpose(1, 2, 0))
        assert str(arrays["crs"]) == dataset.crs.to_string()
        assert arrays["affine"].tolist() == list(dataset.transform[:6])
        assert float(arrays["nodata"]) == dataset.nodata
        raw = Raw(name=name, content=path)
        meta = M.probe(raw)
        spec = {"y": 50, "x": 60, "height": 40, "width": 30}
        tile = M.decode(TILES.extract(raw, meta, spec))
        window = rasterio.windows.Window(60, 50, 30, 40)
        np.testing.assert_array_equal(tile["cube"], dataset.read(window=window).transpose(1, 2, 0))
        corner = dataset.transform @ rasterio.Affine.translation(60, 50)
        np.testing.assert_allclose(tile["affine"], corner[:6], rtol=1e-12)
