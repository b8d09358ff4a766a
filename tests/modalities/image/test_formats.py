"""Files written by Pillow, OpenCV and tifffile, compared with what another of them reads."""

import struct
import zlib
from io import BytesIO
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageCms

from modalities.base import BadSample, Raw
from modalities.image import MODALITY

Pixels = NDArray[Any]
ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


def scene(height: int, width: int, channels: int, dtype: Any = np.uint8) -> Pixels:
    """Smooth ramps with texture, so that every PNG filter and TIFF predictor has something to do."""
    rng = np.random.default_rng(height * 1000 + width + channels)
    y, x, c = np.mgrid[:height, :width, :channels]
    top = np.iinfo(dtype).max
    waves = np.sin(y / 7 + c) + np.cos(x / 5 - c) + rng.normal(0, 0.05, (height, width, channels))
    return np.asarray((waves / 4.4 + 0.5).clip(0, 1) * top).astype(dtype)


def written(image: Image.Image, format: str, **options: Any) -> bytes:
    image.save(out := BytesIO(), format, **options)
    return out.getvalue()


def read(extension: str, data: bytes) -> tuple[Any, Any]:
    """(meta, arrays), having checked that the one foretells the other and that encode loses nothing."""
    meta = MODALITY.probe(Raw(name=f"a/b.{extension}", content=data))
    files = MODALITY.pack(Raw(name=f"a/b.{extension}", content=data), meta)
    assert files == {meta["format"]: data}
    arrays = MODALITY.decode(files)
    assert arrays["image"].shape == (meta["height"], meta["width"], meta["channels"])
    assert arrays["image"].dtype == meta["dtype"]
    again = MODALITY.decode(MODALITY.encode(arrays))
    assert again.keys() == arrays.keys()
    for field, array in arrays.items():
        np.testing.assert_array_equal(array, again[field])
        assert array.dtype == again[field].dtype
    return meta, arrays


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpegs_of_opencv_equal_pillow(channels: int, progressive: bool) -> None:
    data = cv2.imencode(".jpg", scene(37, 53, channels), [cv2.IMWRITE_JPEG_PROGRESSIVE, int(progressive)])[1]
    meta, arrays = read("JPEG", data.tobytes())
    expected = np.asarray(Image.open(BytesIO(data.tobytes()))).reshape(37, 53, channels)
    np.testing.assert_array_equal(arrays["image"], expected)
    assert (meta["format"], meta["progressive"], meta["mode"]) == (
        "jpg",
        progressive,
        ["grey", "rgb"][channels // 2],
    )


def test_cmyk_jpeg_becomes_rgb_and_loses_its_cmyk_profile() -> None:
    cmyk = Image.fromarray(scene(20, 30, 4), "CMYK")
    fake = bytearray(128)
    fake[16:20], fake[36:40] = b"CMYK", b"acsp"
    data = written(cmyk, "JPEG", quality=95, icc_profile=bytes(fake))
    meta, arrays = read("jpg", data)
    assert (meta["mode"], meta["channels"], meta["icc"]) == ("cmyk", 3, True)
    assert "icc" not in arrays
    ours = np.asarray(cmyk.convert("RGB"), int)
    assert np.abs(arrays["image"] - ours).mean() < 4  # JPEG's own loss


@pytest.mark.parametrize(("channels", "mode"), [(1, "grey"), (3, "rgb"), (4, "rgba")])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_pngs_of_opencv_are_read_exactly(channels: int, mode: str, dtype: Any) -> None:
    image = scene(300, 41, channels, dtype)
    strategy = [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_ALL_FILTERS]
    bgr = image[..., [2, 1, 0, 3][:channels]] if channels > 1 else image
    data = cv2.imencode(".png", bgr, strategy)[1].tobytes()
    meta, arrays = read("png", data)
    np.testing.assert_array_equal(arrays["image"], image)
    assert (meta["mode"], meta["bit_depth"]) == (mode, image.itemsize * 8)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_our_16_bit_pngs_are_read_exactly_by_opencv(channels: int) -> None:
    image = scene(33, 300, channels, np.uint16)
    data = MODALITY.encode({"image": image})["png"]
    got = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED).reshape(33, 300, channels)
    np.testing.assert_array_equal(got[..., [2, 1, 0, 3][:channels]] if channels > 1 else got, image)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_every_png_mode_of_pillow_is_read(mode: str) -> None:
    source = Image.fromarray(scene(40, 50, 4), "RGBA").convert("RGB" if mode == "P" else "RGBA")
    picture = Image.fromarray(scene(40, 50, 1, np.uint16)[..., 0]) if mode == "I;16" else source.convert(mode)
    _, arrays = read("png", written(picture, "PNG"))
    if mode == "I;16":
        expected = np.asarray(picture)[..., None]
    else:
        target = {"1": "L", "LA": "RGBA", "P": "RGB"}.get(mode, mode)
        expected = np.asarray(picture.convert(target)).reshape(40, 50, -1)
    np.testing.assert_array_equal(arrays["image"], expected)


@pytest.mark.parametrize("mode", ["L", "P", "RGB"])
def test_a_transparent_colour_becomes_alpha(mode: str) -> None:
    picture = Image.new("RGB", (9, 5), (10, 200, 30)).convert(mode)
    picture.paste({"L": 7, "P": 3, "RGB": (1, 2, 3)}[mode], (2, 1, 4, 3))
    key = picture.getpixel((2, 1))
    _, arrays = read("png", written(picture, "PNG", transparency=key))
    alpha = np.full((5, 9), 255)
    alpha[1:3, 2:4] = 0
    np.testing.assert_array_equal(arrays["image"][..., 3], alpha)


def test_interlaced_pngs_are_read_exactly() -> None:
    for dtype in (np.uint8, np.uint16):
        for shape in ((37, 29, 3), (1, 1, 3), (5, 3, 4)):
            image = scene(*shape, dtype)
            meta, arrays = read("png", interlaced_png(image))
            assert meta["progressive"]
            np.testing.assert_array_equal(arrays["image"], image)


def interlaced_png(image: Pixels) -> bytes:
    """Adam7 by hand, each row with another filter's number and the bytes that filter leaves."""
    height, width, channels = image.shape
    step = channels * image.itemsize
    rows = []
    for x, y, dx, dy in ADAM7:
        part = np.ascontiguousarray(image[y::dy, x::dx], f">u{image.itemsize}")
        if part.size == 0:
            continue
        lines = part.view(np.uint8).reshape(len(part), -1).astype(int)
        for row in range(len(lines)):
            up = lines[row - 1] if row else np.zeros_like(lines[0])
            out = [row % 5]
            for k, value in enumerate(lines[row]):
                a, b, c = (lines[row][k - step], up[k], up[k - step]) if k >= step else (0, up[k], 0)
                distances = [abs(b - c), abs(a - c), abs(a + b - 2 * c)]
                paeth = (a, b, c)[distances.index(min(distances))]
                out.append(int(value - (0, a, b, (a + b) // 2, paeth)[row % 5]) & 255)
            rows.append(bytes(out))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8 * image.itemsize, {3: 2, 4: 6}[channels], 0, 0, 1)
    body = zlib.compress(b"".join(rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("lossless", [True, False])
def test_webps_equal_opencv(mode: str, lossless: bool) -> None:
    picture = Image.fromarray(scene(31, 47, 4), "RGBA").convert(mode)
    data = written(picture, "WEBP", lossless=lossless, exact=True)
    meta, arrays = read("webp", data)
    bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(arrays["image"], bgr[..., [2, 1, 0, 3][: len(mode)]])
    assert meta["compression"] == ("lossless" if lossless else "lossy")


@pytest.mark.parametrize("options", [{}, {"compress_level": 0}])
@pytest.mark.parametrize("moving", [False, True])
def test_gif_gives_its_first_frame(options: Any, moving: bool) -> None:
    frames = [Image.fromarray(scene(20, 30, 3)).quantize(40 + k) for k in range(3)]
    extra = {"save_all": True, "append_images": frames[1:]} if moving else {}
    meta, arrays = read("gif", written(frames[0], "GIF", **extra, **options))
    np.testing.assert_array_equal(arrays["image"], np.asarray(frames[0].convert("RGB")))
    assert meta["animated"] is moving


def test_transparent_gif_has_alpha() -> None:
    picture = Image.fromarray(scene(20, 30, 3)).quantize(16)
    _, arrays = read("gif", written(picture, "GIF", transparency=5))
    np.testing.assert_array_equal(arrays["image"][..., 3], np.where(np.asarray(picture) == 5, 0, 255))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_bmps_equal_opencv(mode: str) -> None:
    picture = Image.fromarray(scene(23, 31, 3)).convert(mode)
    data = written(picture, "BMP")
    _, arrays = read("bmp", data)
    bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_BGR)
    np.testing.assert_array_equal(arrays["image"], bgr[..., ::-1])


LAYOUTS = [{}, {"rowsperstrip": 7}, {"tile": (32, 16)}]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "packbits", "lzma", "zstd"])
@pytest.mark.parametrize(
    ("channels", "dtype"), [(1, "u1"), (3, "u1"), (4, "u1"), (1, "u2"), (2, "u2"), (3, "u2"), (4, "u2")]
)
def test_tiffs_of_tifffile_are_read_exactly(
    layout: Any, compression: str | None, channels: int, dtype: str
) -> None:
    image = scene(45, 61, channels, np.dtype(dtype))
    data = tiff(image, compression=compression, **layout)
    meta, arrays = read("tif", data)
    expected = image[..., [0, 0, 0, 1]] if channels == 2 else image
    np.testing.assert_array_equal(arrays["image"], expected)
    assert (meta["bit_depth"], meta["format"]) == (image.itemsize * 8, "tif")


@pytest.mark.parametrize(
    "option", [{"predictor": True}, {"byteorder": ">"}, {"bigtiff": True}, {"planarconfig": "separate"}]
)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_tiffs_of_every_arrangement_are_read_exactly(option: Any, layout: Any, dtype: str) -> None:
    image = scene(45, 61, 3, np.dtype(dtype))
    _, arrays = read("tiff", tiff(image, compression="zlib", **layout, **option))
    np.testing.assert_array_equal(arrays["image"], image)


def test_predictor_and_byte_order_go_together() -> None:
    image = scene(45, 61, 4, np.uint16)
    data = tiff(image, compression="lzw", predictor=True, byteorder=">", tile=(16, 32))
    np.testing.assert_array_equal(read("tif", data)[1]["image"], image)


def tiff(
    image: Pixels,
    *,
    byteorder: str = "<",
    bigtiff: bool = False,
    planarconfig: str = "contig",
    **options: Any,
) -> bytes:
    channels = image.shape[2]
    pixels = np.moveaxis(image, 2, 0) if planarconfig == "separate" else image
    kind = {"photometric": "minisblack" if channels < 3 else "rgb", "planarconfig": planarconfig}
    if channels == 1:
        pixels, kind = image[..., 0], {"photometric": "minisblack"}
    if channels in (2, 4):
        kind["extrasamples"] = ["unassalpha"]
    with tifffile.TiffWriter(out := BytesIO(), byteorder=byteorder, bigtiff=bigtiff) as writer:
        writer.write(pixels, **kind, **options)
    return out.getvalue()


def test_first_page_of_many_is_read() -> None:
    pages = [scene(20, 30, 3), scene(11, 13, 3)]
    with tifffile.TiffWriter(out := BytesIO()) as writer:
        for page in pages:
            writer.write(page, photometric="rgb")
    meta, arrays = read("tif", out.getvalue())
    assert meta["animated"]
    np.testing.assert_array_equal(arrays["image"], pages[0])


@pytest.mark.parametrize(
    ("compression", "mode"),
    [
        *[
            (c, m)
            for c in (None, "tiff_deflate", "tiff_lzw")
            for m in ("1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr")
        ],
        *[("jpeg", m) for m in ("L", "RGB", "CMYK", "YCbCr")],
        ("group4", "1"),
    ],
)
def test_tiffs_of_pillow_are_read(mode: str, compression: str | None) -> None:
    picture = Image.fromarray(scene(40, 50, 4), "RGBA").convert("RGB").convert(mode)
    _, arrays = read("tif", written(picture, "TIFF", compression=compression))
    target = {"1": "L", "P": "RGB", "CMYK": "RGB", "YCbCr": "RGB"}.get(mode, mode)
    expected = np.asarray(picture.convert(target), int).reshape(40, 50, -1)
    loss = 4 if compression == "jpeg" else 1 if mode == "YCbCr" else 0  # two roundings of the same formula
    assert np.abs(arrays["image"] - expected).mean() <= loss


def test_white_is_zero_and_associated_alpha_are_undone() -> None:
    image = scene(8, 9, 1, np.uint16)
    with tifffile.TiffWriter(out := BytesIO()) as writer:
        writer.write(image[..., 0], photometric="miniswhite")
    np.testing.assert_array_equal(read("tif", out.getvalue())[1]["image"], 65535 - image)
    colour = np.full((4, 4, 4), 30000, np.uint16)
    with tifffile.TiffWriter(out := BytesIO()) as writer:
        writer.write(colour, photometric="rgb", extrasamples=["assocalpha"])
    np.testing.assert_array_equal(read("tif", out.getvalue())[1]["image"][0, 0], [65535, 65535, 65535, 30000])


@pytest.mark.parametrize("dtype", ["f4", "i2", "u4"])
def test_tiffs_of_other_sample_types_are_refused_by_name(dtype: str) -> None:
    with pytest.raises(BadSample, match=r"unsupported: TIFF"):
        read("tif", tiff(np.ones((4, 4, 1), dtype)))


def test_many_bands_are_sent_to_the_hyperspectral_modality() -> None:
    with tifffile.TiffWriter(out := BytesIO()) as writer:
        writer.write(scene(8, 8, 7), photometric="minisblack", planarconfig="contig")
    with pytest.raises(BadSample, match="hyperspectral"):
        read("tif", out.getvalue())


def test_icc_profile_is_named_and_survives() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for format, extension in (("JPEG", "jpg"), ("PNG", "png"), ("WEBP", "webp"), ("TIFF", "tif")):
        data = written(Image.fromarray(scene(9, 9, 3)), format, icc_profile=profile)
        meta, arrays = read(extension, data)
        assert meta["icc_name"] == "sRGB built-in"
        assert arrays["icc"].tobytes() == profile
    deep = MODALITY.encode({"image": scene(9, 9, 3, np.uint16), "icc": np.frombuffer(profile, np.uint8)})
    assert Image.open(BytesIO(deep["png"])).info["icc_profile"] == profile


def test_profile_cut_into_many_jpeg_segments_is_joined() -> None:
    profile = bytearray(np.random.default_rng(0).integers(0, 256, 200_000, np.uint8).tobytes())
    profile[16:20], profile[36:40] = b"RGB ", b"acsp"
    _, arrays = read("jpg", written(Image.fromarray(scene(9, 9, 3)), "JPEG", icc_profile=bytes(profile)))
    assert arrays["icc"].tobytes() == bytes(profile)
