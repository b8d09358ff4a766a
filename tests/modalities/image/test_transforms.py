"""Named transforms and the model's input, against Pillow and OpenCV."""

from io import BytesIO
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from modalities.base import BadSample
from modalities.image import MODALITY
from modalities.image.transforms import MEAN, STD

resize, crop, transcode = (MODALITY.transforms[name] for name in ("resize", "crop", "transcode"))
RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (60, 90, 3), np.uint8)
MASK = RNG.integers(0, 1000, (60, 90))


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ({"shorter": 30}, (30, 45)),
        ({"longer": 30}, (20, 30)),
        ({"size": (7, 100)}, (7, 100)),
        ({"shorter": 120}, (120, 180)),
        ({"shorter": 120, "enlarge": False}, (60, 90)),
        ({"longer": 1}, (1, 1)),
    ],
)
def test_resize_gives_the_size_asked_for(options: Any, shape: Any) -> None:
    out = resize({"image": RGB, "segmentation": MASK, "icc": np.zeros(3, np.uint8)}, **options)
    assert out["image"].shape == (*shape, 3)
    assert out["segmentation"].shape == shape
    assert set(out["segmentation"].ravel()) <= set(MASK.ravel())
    assert out["icc"].shape == (3,)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_resize_is_antialiased_at_both_depths(dtype: Any) -> None:
    top = np.iinfo(dtype).max
    stripes = np.zeros((64, 64, 1), dtype)
    stripes[:, ::2] = top
    small = resize({"image": stripes}, size=(16, 16), method="bilinear")["image"]
    assert small.dtype == dtype
    assert np.abs(small[:, 1:-1] / top - 0.5).max() < 0.01


def test_resize_of_16_bits_agrees_with_opencv_where_both_average() -> None:
    deep = RNG.integers(0, 65536, (64, 96, 3)).astype(np.uint16)
    blocks = resize({"image": deep}, size=(32, 48), method="bilinear")["image"].astype(int)
    area = cv2.resize(cv2.GaussianBlur(deep, (3, 3), 0.85), (48, 32), interpolation=cv2.INTER_AREA).astype(
        int
    )
    assert np.corrcoef(blocks.ravel(), area.ravel())[0, 1] > 0.98


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_hidden_colours_do_not_bleed_out_of_transparent_pixels(dtype: Any) -> None:
    top = np.iinfo(dtype).max
    image = np.zeros((8, 8, 4), dtype)
    image[:, :4] = (top, 0, 0, 0)  # invisible red
    image[:, 4:] = (0, 0, top, top)
    out = resize({"image": image}, size=(8, 3), method="bilinear")["image"]
    assert out[:, 1, 0].max() <= top // 100
    assert out[:, 1, 2].min() >= top - top // 100


@pytest.mark.parametrize(
    "options", [{}, {"shorter": 3, "longer": 4}, {"size": (0, 4)}, {"shorter": 4, "method": "x"}]
)
def test_resize_says_what_it_wanted(options: Any) -> None:
    with pytest.raises(ValueError, match="want"):
        resize({"image": RGB}, **options)


def test_resize_to_a_bomb_is_refused() -> None:
    with pytest.raises(BadSample, match="too-large"):
        resize({"image": RGB}, shorter=100_000)


def test_crop_takes_the_window_of_image_and_mask() -> None:
    out = crop({"image": RGB, "segmentation": MASK}, height=10, width=20, top=5, left=7)
    np.testing.assert_array_equal(out["image"], RGB[5:15, 7:27])
    np.testing.assert_array_equal(out["segmentation"], MASK[5:15, 7:27])
    np.testing.assert_array_equal(crop({"image": RGB}, height=10, width=20)["image"], RGB[25:35, 35:55])
    with pytest.raises(BadSample, match="too-small"):
        crop({"image": RGB}, height=61, width=20)


@pytest.mark.parametrize(
    ("format", "quality", "extension", "magic"),
    [
        ("jpeg", 80, "jpg", b"\xff\xd8"),
        ("jpg", None, "jpg", b"\xff\xd8"),
        ("webp", 50, "webp", b"RIFF"),
        ("png", None, "png", b"\x89PNG"),
    ],
)
def test_transcode_decides_what_encode_writes(
    format: str, quality: int | None, extension: str, magic: bytes
) -> None:
    deep = RNG.integers(0, 65536, (20, 30, 4)).astype(np.uint16)
    for image in (RGB, deep, deep[..., :1]):
        files = MODALITY.encode(transcode({"image": image}, format=format, quality=quality))
        assert list(files) == [extension]
        assert files[extension].startswith(magic)
        assert "format" not in MODALITY.decode(files)


def test_quality_buys_fidelity_and_lossless_webp_is() -> None:
    smooth = np.asarray(Image.fromarray(RGB).resize((200, 100), Image.Resampling.BICUBIC))
    sizes = [
        len(MODALITY.encode(transcode({"image": smooth}, format="jpeg", quality=q))["jpg"])
        for q in (10, 50, 95)
    ]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[2] / 3
    lossless = MODALITY.encode(transcode({"image": RGB}, format="webp"))
    np.testing.assert_array_equal(MODALITY.decode(lossless)["image"], RGB)


def test_jpeg_gets_white_behind_alpha() -> None:
    clear = np.zeros((16, 16, 4), np.uint8)
    files = MODALITY.encode(transcode({"image": clear}, format="jpeg"))
    assert Image.open(BytesIO(files["jpg"])).getpixel((8, 8)) == (255, 255, 255)


@pytest.mark.parametrize(
    "options", [{"format": "tiff"}, {"format": "png", "quality": 5}, {"format": "jpg", "quality": 0}]
)
def test_transcode_refuses_what_it_cannot_do(options: Any) -> None:
    with pytest.raises(ValueError, match="want"):
        transcode({"image": RGB}, **options)
    with pytest.raises(ValueError, match="transcode first"):
        MODALITY.encode({"image": np.zeros((4, 4, 4), np.uint8), "format": np.array("jpg")})


def test_prepare_equals_pillow_resize_centre_crop_normalise() -> None:
    out = MODALITY.prepare({"image": RGB}, size=32, rng=None)
    square = Image.fromarray(RGB[:, 15:75]).resize((32, 32), Image.Resampling.BILINEAR)
    expected = (np.asarray(square) / 255 - MEAN) / STD
    assert out["image"].dtype == np.float32
    np.testing.assert_allclose(out["image"], expected.transpose(2, 0, 1), atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(1, 1), (5, 300), (64, 64)])
def test_prepare_gives_one_shape_for_every_picture(channels: int, dtype: Any, shape: Any) -> None:
    image = RNG.integers(0, np.iinfo(dtype).max, (*shape, channels)).astype(dtype)
    for rng in (None, np.random.default_rng(1)):
        out = MODALITY.prepare({"image": image, "segmentation": np.ones(shape, np.uint8)}, size=24, rng=rng)
        assert {k: (v.shape, v.dtype) for k, v in out.items()} == {
            "image": ((3, 24, 24), np.float32),
            "segmentation": ((24, 24), np.int64),
        }
        assert np.isfinite(out["image"]).all()


def test_prepare_scales_16_bits_and_lays_alpha_over_white() -> None:
    plain = {"mean": (0.0,) * 3, "std": (1.0,) * 3, "size": 4, "rng": None}
    assert MODALITY.prepare({"image": np.full((4, 4, 1), 65535, np.uint16)}, **plain)["image"].min() == 1
    assert MODALITY.prepare({"image": np.zeros((4, 4, 4), np.uint8)}, **plain)["image"].min() == 1


def test_augmentation_depends_only_on_the_generator_and_moves_image_and_mask_together() -> None:
    ramp = np.mgrid[:256, :256][1].astype(np.uint8)
    arrays = {"image": ramp[..., None], "segmentation": ramp}
    plain = {"mean": (0.0,) * 3, "std": (1.0,) * 3, "size": 64}
    seen = set()
    for seed in range(20):
        one = MODALITY.prepare(arrays, rng=np.random.default_rng(seed), **plain)
        two = MODALITY.prepare(arrays, rng=np.random.default_rng(seed), **plain)
        np.testing.assert_array_equal(one["image"], two["image"])
        np.testing.assert_allclose(one["image"][0] * 255, one["segmentation"], atol=4)
        seen.add(bool(one["segmentation"][0, 0] > one["segmentation"][0, -1]))
    assert seen == {False, True}
