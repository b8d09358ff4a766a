"""What the headers say, how files lie, and that lying costs nothing."""

import struct
import tracemalloc
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from modalities.base import BadSample, Raw
from modalities.image import MODALITY
from modalities.image.schema import EXTENSIONS

EXIF_DATE, EXIF_TAKEN, ORIENTATION = 0x0132, 0x9003, 0x0112


def picture(height: int = 24, width: int = 40, channels: int = 3) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, channels), np.uint8)
    return Image.fromarray(pixels[..., 0] if channels == 1 else pixels)


def written(image: Image.Image, format: str, **options: Any) -> bytes:
    image.save(out := BytesIO(), format, **options)
    return out.getvalue()


def tiff(pixels: Any, **options: Any) -> bytes:
    with tifffile.TiffWriter(out := BytesIO()) as writer:
        writer.write(pixels, **options)
    return out.getvalue()


def probe(extension: str, data: bytes) -> Any:
    return MODALITY.probe(Raw(name=f"x.{extension}", content=data))


def exif(orientation: int) -> Image.Exif:
    block = Image.Exif()
    block[ORIENTATION] = orientation
    block[EXIF_DATE] = "2020:01:02 03:04:05"
    block.get_ifd(0x8769)[EXIF_TAKEN] = "2019:12:31 23:59:58"
    return block


def examples() -> dict[str, tuple[str, bytes]]:
    moving = {"save_all": True, "append_images": [picture().rotate(180)]}
    deep = np.random.default_rng(1).integers(0, 65536, (20, 30, 3), np.uint16)
    return {
        "jpg": ("jpg", written(picture(), "JPEG", exif=exif(6))),
        "jpg progressive": ("jpg", written(picture(), "JPEG", progressive=True)),
        "jpg cmyk": ("jpg", written(picture().convert("CMYK"), "JPEG")),
        "png": ("png", written(picture(channels=4), "PNG")),
        "png palette": ("png", written(picture().convert("P"), "PNG", transparency=3)),
        "png 16": ("png", MODALITY.encode({"image": deep})["png"]),
        "webp": ("webp", written(picture(), "WEBP", exif=exif(8))),
        "webp lossless": ("webp", written(picture(channels=4), "WEBP", lossless=True)),
        "gif": ("gif", written(picture().convert("P"), "GIF", **moving)),
        "bmp": ("bmp", written(picture(), "BMP")),
        "tif": ("tif", written(picture(), "TIFF", compression="tiff_lzw", exif=exif(3))),
        "tif 16": ("tif", tiff(deep, photometric="rgb", compression="zlib", predictor=True)),
        "tif tiled": ("tif", tiff(deep.astype(np.uint8), photometric="rgb", tile=(16, 16))),
    }


EXAMPLES = examples()


@pytest.mark.parametrize("kind", EXAMPLES)
def test_a_file_on_disk_is_probed_like_bytes(kind: str, tmp_path: Path) -> None:
    extension, data = EXAMPLES[kind]
    path = tmp_path / f"x.{extension}"
    path.write_bytes(data)
    assert MODALITY.probe(Raw(name=path.name, content=path)) == probe(extension, data)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_orientation_is_applied_as_pillow_applies_it(orientation: int, format: str) -> None:
    data = written(
        picture(), format, exif=exif(orientation), **({"lossless": True} if format == "WEBP" else {})
    )
    extension = EXTENSIONS[format.lower()]
    meta = probe(extension, data)
    turned = orientation >= 5
    assert (meta["width"], meta["height"]) == ((24, 40) if turned else (40, 24))
    assert (meta["stored_width"], meta["stored_height"]) == (40, 24)
    # Pillow writes no inner directory into a TIFF, so there only the time of the last change is left
    taken = "2020-01-02T03:04:05" if format == "TIFF" else "2019-12-31T23:59:58"
    assert (meta["orientation"], meta["timestamp"]) == (orientation, taken)
    reopened = Image.open(BytesIO(data))
    expected = np.asarray(ImageOps.exif_transpose(reopened).convert("RGB"))
    np.testing.assert_array_equal(MODALITY.decode({extension: data})["image"], expected)
    if format != "JPEG":  # and not only as Pillow applies it
        corner = np.asarray(picture())[
            [0, 0, -1, -1, 0, -1, -1, 0][orientation - 1], [0, -1, -1, 0, 0, 0, -1, -1][orientation - 1]
        ]
        np.testing.assert_array_equal(MODALITY.decode({extension: data})["image"][0, 0], corner)


def test_16_bit_tiff_is_turned_as_well() -> None:
    deep = np.arange(24, dtype=np.uint16).reshape(2, 4, 3) * 1000
    data = tiff(deep, photometric="rgb", extratags=[(ORIENTATION, 3, 1, 6, True)])
    np.testing.assert_array_equal(MODALITY.decode({"tif": data})["image"], np.rot90(deep, -1))


def test_orientation_in_xmp_alone_does_not_turn_a_tiff_behind_our_back() -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    pixels = np.asarray(picture())
    data = tiff(pixels, photometric="rgb", extratags=[(700, 1, len(xmp), xmp, True)])
    np.testing.assert_array_equal(MODALITY.decode({"tif": data})["image"], pixels)


def test_broken_exif_does_not_cost_the_picture() -> None:
    for block in (
        b"Exif\0\0",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0MM\0*\0\0\0\x08\xff\xff",
        b"Exif\0\0rubbish",
    ):
        data = written(picture(), "JPEG", exif=block)
        assert probe("jpg", data)["orientation"] == 1


def outcome(extension: str, data: bytes) -> tuple[Any, str]:
    try:
        return MODALITY.decode({extension: data})["image"], "whole"
    except BadSample as error:
        return None, error.reason


@pytest.mark.parametrize("kind", EXAMPLES)
def test_a_file_cut_anywhere_is_bad_or_whole(kind: str) -> None:
    extension, data = EXAMPLES[kind]
    whole = MODALITY.decode({extension: data})["image"]
    for end in sorted({1, 4, 11, 20, 30, *range(40, len(data), max(1, len(data) // 40)), len(data) - 1}):
        got, reason = outcome(extension, data[:end])
        assert reason in ("truncated", "corrupt", "unknown-format", "whole")
        if got is not None:
            assert end > 0.4 * len(data)  # only what follows the first picture is missing
            np.testing.assert_array_equal(got, whole)


@pytest.mark.parametrize("kind", [k for k in EXAMPLES if not k.startswith("gif")])
def test_a_file_cut_in_half_is_called_truncated_before_any_decoder_sees_it(kind: str) -> None:
    extension, data = EXAMPLES[kind]
    with pytest.raises(BadSample, match="truncated"):
        probe(extension, data[: len(data) // 2])


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("x.jpg", b"", "empty"),
        ("x.jpg", b"<?xml version='1.0'?><svg/>", "unknown-format"),
        ("x.tif", b"<VRTDataset rasterXSize='1'>", "unknown-format"),
        ("x.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n", "unknown-format"),
        ("x.jpg", EXAMPLES["png"][1], "extension-mismatch"),
        ("x.png", EXAMPLES["jpg"][1], "extension-mismatch"),
        ("x.jpg", b"\xff\xd8\xff\xd9", "truncated"),
        ("x.jpg", b"\xff\xd8\xff\xd9\0\0", "corrupt"),
    ],
)
def test_wrong_files_are_refused_with_their_reason(name: str, content: bytes, reason: str) -> None:
    with pytest.raises(BadSample) as caught:
        MODALITY.probe(Raw(name=name, content=content))
    assert caught.value.reason == reason


@pytest.mark.parametrize("name", ["a.JPEG", "a.jpg", "a.Jfif", "no-extension", "a.b/c", "image.0001"])
def test_names_of_the_same_family_and_names_that_say_nothing_are_fine(name: str) -> None:
    assert MODALITY.probe(Raw(name=name, content=EXAMPLES["jpg"][1]))["format"] == "jpg"


def png_header(width: int, height: int, depth: int = 8, colour: int = 2) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 10_000)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def bombs() -> dict[str, tuple[str, bytes, str]]:
    jpeg = bytearray(written(picture(), "JPEG"))
    at = jpeg.index(b"\xff\xc0")
    jpeg[at + 5 : at + 9] = struct.pack(">HH", 65535, 65535)
    gif = bytearray(written(picture().convert("P"), "GIF"))
    gif[6:10] = struct.pack("<HH", 65535, 65535)
    bmp = bytearray(written(picture(), "BMP"))
    bmp[18:26] = struct.pack("<ii", 2**31 - 1, -(2**31))
    webp = bytearray(written(picture(channels=4), "WEBP", exif=exif(1)))
    webp[24:30] = b"\xff" * 6
    lying = bytearray(tiff(np.zeros((8, 8), np.uint8)))
    page = tifffile.TiffFile(BytesIO(bytes(lying))).pages[0]
    for name in ("ImageWidth", "ImageLength"):
        tag = page.tags[name]
        lying[tag.valueoffset : tag.valueoffset + 4] = struct.pack("<I", 50_000)[
            : 2 if tag.dtype == 3 else 4
        ].ljust(4, b"\0")
    return {
        "png": ("png", png_header(50_000, 50_000), "too-large"),
        "png 2^31": ("png", png_header(2**31 - 1, 2**31 - 1, 16, 6), "too-large"),
        "png small": ("png", png_header(9_000, 9_000), "corrupt"),
        "png small 16": ("png", png_header(9_000, 9_000, 16), "truncated"),
        "jpg": ("jpg", bytes(jpeg), "too-large"),
        "gif": ("gif", bytes(gif), "too-large"),
        "bmp": ("bmp", bytes(bmp), "too-large"),
        "webp": ("webp", bytes(webp), "too-large"),
        "tif": ("tif", bytes(lying), "too-large"),
    }


BOMBS = bombs()


@pytest.mark.parametrize("kind", BOMBS)
def test_a_bomb_is_refused_within_little_memory(kind: str) -> None:
    extension, data, reason = BOMBS[kind]
    tracemalloc.start()
    try:
        with pytest.raises(BadSample) as caught:
            MODALITY.decode({extension: data})
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert caught.value.reason == reason
    assert peak < (1 << 20)


def test_tiff_directories_that_bite_themselves_are_refused() -> None:
    data = bytearray(tiff(np.zeros((8, 8), np.uint8)))
    (first,) = struct.unpack("<I", data[4:8])
    (count,) = struct.unpack("<H", data[first : first + 2])
    data[first + 2 + 12 * count : first + 6 + 12 * count] = struct.pack("<I", first)
    with pytest.raises(BadSample, match="loop"):
        probe("tif", bytes(data))


def test_tiff_strip_beyond_the_end_is_refused() -> None:
    data = bytearray(tiff(np.zeros((8, 8), np.uint8)))
    tag = tifffile.TiffFile(BytesIO(bytes(data))).pages[0].tags["StripOffsets"]
    data[tag.valueoffset : tag.valueoffset + 2] = struct.pack("<H", 60_000)
    with pytest.raises(BadSample, match="beyond the end"):
        probe("tif", bytes(data))


def test_progressive_jpeg_with_a_thousand_scans_is_refused() -> None:
    data = written(picture(), "JPEG", progressive=True)
    start = data.rindex(b"\xff\xda")
    scan = data[start:-2]
    with pytest.raises(BadSample, match="1009 scans"):
        probe("jpg", data[:-2] + scan * 1000 + data[-2:])


def test_unread_jpeg_kinds_are_named() -> None:
    data = bytearray(written(picture(), "JPEG"))
    at = data.index(b"\xff\xc0")
    for marker, depth, match in ((0xC9, 8, "arithmetic"), (0xC3, 8, "lossless"), (0xC1, 12, "12 bits")):
        data[at + 1], data[at + 4] = marker, depth
        with pytest.raises(BadSample, match=match):
            probe("jpg", bytes(data))


@settings(max_examples=600)
@given(
    kind=st.sampled_from(sorted(EXAMPLES)),
    edits=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=8),
    early=st.booleans(),
    cut=st.none() | st.floats(0, 1),
)
def test_mutated_files_are_decoded_or_bad_and_nothing_else(
    kind: str, edits: list[tuple[float, int]], early: bool, cut: float | None
) -> None:
    extension, data = EXAMPLES[kind]
    changed = bytearray(data)
    reach = min(len(data), 200) if early else len(data)
    for where, value in edits:
        changed[min(int(where * reach), reach - 1)] = value
    blob = bytes(changed if cut is None else changed[: int(cut * len(changed))])
    try:
        meta = probe(extension, blob)
        image = MODALITY.decode({extension: blob})["image"]
    except BadSample:
        return
    assert image.shape == (meta["height"], meta["width"], meta["channels"])


def test_every_photograph_is_probed_and_equals_pillow(shared_data: Path) -> None:
    paths = sorted((shared_data / "images").glob("*.JPEG"))
    assert len(paths) == 142
    for path in paths:
        data = path.read_bytes()
        meta = MODALITY.probe(Raw(name=path.name, content=path))
        arrays = MODALITY.decode(MODALITY.pack(Raw(name=path.name, content=data), meta))
        with Image.open(path) as opened:
            expected = np.asarray(opened.convert("L" if opened.mode == "L" else "RGB"))
            assert meta["icc"] == ("icc_profile" in opened.info)
        np.testing.assert_array_equal(arrays["image"], expected.reshape(*expected.shape[:2], -1))
        assert arrays["image"].shape == (meta["height"], meta["width"], meta["channels"])


def test_no_photograph_comes_out_of_a_broken_tiff(shared_data: Path) -> None:
    for path in (shared_data / "hostile").glob("*.tif*"):
        with pytest.raises(BadSample):
            MODALITY.decode({"tif": path.read_bytes()})
