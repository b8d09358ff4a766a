"""Pictures <-> bytes. What passes through is not touched; what was decoded is written without loss."""

from io import BytesIO
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from modalities.base import Arrays, BadSample, Files, Meta, Raw
from modalities.image import colour, deep_png, pillow, tiff
from modalities.image.probe import read_header
from modalities.image.readers import icc
from modalities.image.schema import EXTENSIONS, Header

SEGMENTATION = "seg.png"


def pack(raw: Raw, meta: Meta) -> Files:
    """The bytes as they are, under the canonical extension of what they are."""
    return {str(meta["format"]): raw.read()}


def decode(files: Files) -> Arrays:
    """Pixels as displayed.

    image: (h, w, c), c 1 grey, 3 RGB, 4 RGBA; uint8, or uint16 when 16 bits are stored. EXIF orientation is
        applied; palettes, CMYK and bilevel become RGB or grey.
    segmentation: (h, w) uint8 or uint16, from `seg.png`, in displayed orientation.
    icc: (n,) uint8, the profile, when there is one that speaks of these channels.
    Other members (labels, captions) are left alone.
    """
    name = picture_name(files)
    data = files[name]
    header = read_header(Raw(name=f"picture.{name}", content=data))
    arrays: dict[str, NDArray[Any]] = {"image": _guarded(name, data, header)}
    if SEGMENTATION in files:
        arrays["segmentation"] = _segmentation(files[SEGMENTATION], header.displayed)
    if profile := icc.fitting(header.icc, header.channels):
        arrays["icc"] = np.frombuffer(profile, np.uint8)
    return arrays


def picture_name(files: Files) -> str:
    """The one member that holds a picture."""
    names = [name for name in files if name.lower() in EXTENSIONS]
    if len(names) != 1:
        raise BadSample(
            "unknown-format", f"a sample holds one picture ({', '.join(EXTENSIONS)}), got {sorted(files)}"
        )
    return names[0]


def _guarded(name: str, data: bytes, header: Header) -> colour.Pixels:
    """Decoded and turned; whatever a decoder throws at broken bytes becomes BadSample."""
    try:
        image = colour.orient(_pixels(data, header), header.orientation)
    except (BadSample, MemoryError):
        raise
    except Exception as error:
        raise BadSample("corrupt", f"{name}: {type(error).__name__}: {error}") from error
    want = (*header.displayed, header.channels)
    if image.shape != want or image.dtype != header.dtype:
        raise BadSample(
            "corrupt", f"{name} says {want} {header.dtype} and decodes to {image.shape} {image.dtype}"
        )
    return image


def _pixels(data: bytes, header: Header) -> colour.Pixels:
    """(stored h, stored w, c)."""
    if header.format == "jpg" and header.mode != "cmyk":
        pixels: colour.Pixels = simplejpeg.decode_jpeg(data, "GRAY" if header.mode == "grey" else "RGB")
        return pixels
    if header.format == "tif":
        return tiff.decode(data, header)
    if header.bit_depth == 16:
        return deep_png.decode(data, header.channels)
    return pillow.decode(data, header)


def _segmentation(data: bytes, shape: tuple[int, int]) -> NDArray[Any]:
    """(h, w) class numbers: palette indices and grey values as stored, not as shown."""
    header = read_header(Raw(name=SEGMENTATION, content=data))
    if header.mode not in ("grey", "bilevel", "palette"):
        raise BadSample("unsupported", f"{SEGMENTATION} is {header.mode}; want grey or palette")
    if (header.height, header.width) != shape:
        raise BadSample(
            "corrupt",
            f"{SEGMENTATION} is {(header.height, header.width)}, the picture as displayed {shape}",
        )
    try:
        if header.bit_depth == 16:
            deep: NDArray[Any] = deep_png.decode(data, 1)[..., 0]
            return deep
        with Image.open(BytesIO(data), formats=["PNG"]) as picture:
            mask = np.array(picture).astype(np.uint8)
    except (BadSample, MemoryError):
        raise
    except Exception as error:
        raise BadSample("corrupt", f"{SEGMENTATION}: {type(error).__name__}: {error}") from error
    if header.mode == "grey" and header.bit_depth < 8:
        mask //= 255 // (2**header.bit_depth - 1)  # Pillow spreads short grey over 0..255
    return mask


def encode(arrays: Arrays) -> Files:
    """Lossless PNG, or what `transcode` asked for; decode gives the same arrays back when it is lossless.

    format: 0-d str, "png" (default), "jpg" or "webp". quality: 0-d int, 1..100; webp without it is lossless.
    """
    image = colour.check(np.asarray(arrays["image"]))
    profile = arrays["icc"].tobytes() if "icc" in arrays else None
    target = str(arrays["format"]) if "format" in arrays else "png"
    quality = int(arrays["quality"]) if "quality" in arrays else None
    if target not in ("png", "jpg", "webp"):
        raise ValueError(f"format: want png, jpg or webp, got {target!r}")
    if image.dtype == np.uint16 and target == "png":
        files = {"png": deep_png.encode(image, profile)}
    else:
        files = {target: _eight_bit_file(image, target, quality, profile)}
    if "segmentation" in arrays:
        files[SEGMENTATION] = _mask_file(np.asarray(arrays["segmentation"]), image.shape[:2])
    return files


def _eight_bit_file(image: colour.Pixels, target: str, quality: int | None, profile: bytes | None) -> bytes:
    if image.dtype != np.uint8 or (target == "jpg" and image.shape[2] == 4):
        raise ValueError(f"{target} holds no {image.dtype} with {image.shape[2]} channels; transcode first")
    options: dict[str, Any] = {"icc_profile": profile} if profile else {}
    if target == "jpg":
        options |= {"quality": 90 if quality is None else quality}
    elif target == "webp":
        options |= {"lossless": True, "exact": True} if quality is None else {"quality": quality}
    elif quality is not None:
        raise ValueError(f"quality: png has none, got {quality}; leave it out")
    picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
    picture.save(out := BytesIO(), pillow.NAMES[target], **options)
    return out.getvalue()


def _mask_file(mask: NDArray[Any], shape: tuple[int, ...]) -> bytes:
    if mask.shape != shape or mask.dtype.kind not in "ui" or mask.min() < 0 or mask.max() > 65535:
        raise ValueError(
            f"segmentation: want {shape} integers in 0..65535, got {mask.shape} {mask.dtype} "
            f"in {mask.min()}..{mask.max()}"
        )
    if mask.dtype == np.uint16 or mask.max() > 255:
        return deep_png.encode(mask.astype(np.uint16)[..., None])
    Image.fromarray(mask.astype(np.uint8)).save(out := BytesIO(), "PNG")
    return out.getvalue()
