"""Samples with masks, profiles and wishes; and what a sample must not be."""

import struct
import zlib
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as random_arrays
from PIL import Image

from modalities.base import BadSample
from modalities.image import MODALITY
from modalities.image.schema import MAX_PIXELS

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (20, 30, 3), np.uint8)


def png(image: Image.Image, **options: Any) -> bytes:
    image.save(out := BytesIO(), "PNG", **options)
    return out.getvalue()


@settings(max_examples=60)
@given(
    image=st.tuples(st.integers(1, 20), st.integers(1, 20), st.sampled_from([1, 3, 4])).flatmap(
        lambda shape: st.sampled_from([np.uint8, np.uint16]).flatmap(
            lambda dtype: random_arrays(dtype, shape)
        )
    )
)
def test_any_image_survives_encode_and_decode(image: Any) -> None:
    got = MODALITY.decode(MODALITY.encode({"image": image}))
    assert got.keys() == {"image"}
    assert got["image"].dtype == image.dtype
    np.testing.assert_array_equal(got["image"], image)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("palette", [False, True])
def test_masks_keep_their_class_numbers_at_every_depth(bits: int, palette: bool) -> None:
    classes = RNG.integers(0, 2**bits, (20, 30)).astype(np.uint8)
    if palette:
        mask = Image.new("P", (30, 20))
        mask.putpalette(RNG.integers(0, 256, 768).astype(np.uint8).tobytes())
        mask.putdata(classes.ravel().tolist())
        data = png(mask, bits=bits)
    else:
        data = grey_png(classes, bits)
    got = MODALITY.decode({"png": png(Image.fromarray(RGB)), "seg.png": data, "cls": b"7"})
    assert got.keys() == {"image", "segmentation"}
    np.testing.assert_array_equal(got["segmentation"], classes)


def grey_png(classes: Any, bits: int) -> bytes:
    """Grey PNG of any depth: Pillow writes only 1 and 8 bits of it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    shifts = np.arange(bits - 1, -1, -1)
    rows = [b"\0" + np.packbits((row[:, None] >> shifts & 1).ravel()).tobytes() for row in classes]
    head = struct.pack(">IIBBBBB", classes.shape[1], classes.shape[0], bits, 0, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"".join(rows))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int64])
def test_masks_travel_with_the_picture(dtype: Any) -> None:
    mask = (np.arange(600).reshape(20, 30) % 256).astype(dtype) * (1 if dtype is np.uint8 else 100)
    files = MODALITY.encode({"image": RGB, "segmentation": mask})
    assert sorted(files) == ["png", "seg.png"]
    got = MODALITY.decode(files)
    np.testing.assert_array_equal(got["segmentation"], mask)
    again = MODALITY.decode(MODALITY.encode(got))
    assert again["segmentation"].dtype == got["segmentation"].dtype


def test_masks_of_another_size_or_of_colours_are_refused() -> None:
    picture = png(Image.fromarray(RGB))
    with pytest.raises(BadSample, match=r"seg.png is \(30, 20\), the picture as displayed \(20, 30\)"):
        MODALITY.decode({"png": picture, "seg.png": png(Image.new("L", (20, 30)))})
    with pytest.raises(BadSample, match=r"seg.png is rgb"):
        MODALITY.decode({"png": picture, "seg.png": picture})
    with pytest.raises(BadSample, match="truncated"):
        MODALITY.decode({"png": picture, "seg.png": png(Image.new("L", (30, 20)))[:-20]})
    with pytest.raises(ValueError, match=r"segmentation: want \(20, 30\) integers"):
        MODALITY.encode({"image": RGB, "segmentation": np.full((20, 30), -1)})


def test_mask_is_in_displayed_orientation() -> None:
    block = Image.Exif()
    block[0x0112] = 6
    mask = RNG.integers(0, 9, (30, 20)).astype(np.uint8)
    got = MODALITY.decode(
        {"png": png(Image.fromarray(RGB), exif=block), "seg.png": png(Image.fromarray(mask))}
    )
    assert got["image"].shape == (30, 20, 3)
    np.testing.assert_array_equal(got["segmentation"], mask)


@pytest.mark.parametrize("files", [{}, {"cls": b"1"}, {"seg.png": b""}, {"png": b"", "jpg": b""}])
def test_a_sample_holds_exactly_one_picture(files: Any) -> None:
    with pytest.raises(BadSample, match="one picture"):
        MODALITY.decode(files)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4)),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_arrays_that_are_no_images_are_refused(image: Any) -> None:
    with pytest.raises(ValueError, match="image: want"):
        MODALITY.encode({"image": image})


def test_pillow_itself_refuses_what_the_probe_would() -> None:
    assert Image.MAX_IMAGE_PIXELS is not None
    assert Image.MAX_IMAGE_PIXELS <= 2 * MAX_PIXELS


def test_preview_is_a_small_png() -> None:
    for shape, dtype, size in (((700, 900, 3), np.uint16, (256, 199)), ((9, 5, 4), np.uint8, (5, 9))):
        files = MODALITY.preview({"image": np.zeros(shape, dtype)})
        with Image.open(BytesIO(files["png"])) as opened:
            assert (opened.size, opened.mode) == (size, "RGB")
