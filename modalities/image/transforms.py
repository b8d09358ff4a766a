"""What a job may do to a picture by name, and what a model wants of it."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from modalities.base import Arrays, BadSample
from modalities.image.colour import Pixels, check, eight_bit, opaque, rgb
from modalities.image.schema import check_size

MEAN = (0.485, 0.456, 0.406)  # of ImageNet, RGB, 0..1
STD = (0.229, 0.224, 0.225)

_METHODS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def resample(image: Pixels, height: int, width: int, method: str = "bicubic") -> Pixels:
    """(h, w, c) -> (height, width, c), same dtype, antialiased; colours are weighted by alpha."""
    if method not in _METHODS:
        raise ValueError(f"method: want one of {sorted(_METHODS)}, got {method!r}")
    if image.shape[:2] == (height, width):
        return image
    check_size("resized image", width, height, image.shape[2], image.itemsize)
    if method == "nearest":
        return _nearest(image, height, width)
    size, how = (width, height), _METHODS[method]
    if image.dtype == np.uint8:
        picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
        small: Pixels = np.array(picture.resize(size, how)).reshape(height, width, -1)
        return small
    planes = image.astype(np.float32)
    if image.shape[2] == 4:
        planes[..., :3] *= planes[..., 3:] / 65535
    resized = [np.array(Image.fromarray(plane).resize(size, how)) for plane in np.moveaxis(planes, 2, 0)]
    out: NDArray[np.float32] = np.stack(resized, axis=2)
    if image.shape[2] == 4:
        out[..., :3] /= np.maximum(out[..., 3:] / 65535, 1 / 65535)
    return np.rint(out).clip(0, 65535).astype(np.uint16)


def _nearest(image: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    """Of any dtype, centres on centres, so that class numbers stay class numbers."""
    rows = (2 * np.arange(height) + 1) * image.shape[0] // (2 * height)
    columns = (2 * np.arange(width) + 1) * image.shape[1] // (2 * width)
    return np.ascontiguousarray(image[rows[:, None], columns])


def resize(
    arrays: Arrays,
    *,
    shorter: int | None = None,
    longer: int | None = None,
    size: tuple[int, int] | None = None,
    method: str = "bicubic",
    enlarge: bool = True,
) -> Arrays:
    """Image and segmentation at another size, in pixels; one of shorter, longer, size (height, width).

    `enlarge=False` leaves pictures alone that are smaller already.
    """
    if sum(option is not None for option in (shorter, longer, size)) != 1:
        raise ValueError(f"resize: want one of shorter, longer, size, got {shorter}, {longer}, {size}")
    image = check(np.asarray(arrays["image"]))
    height, width = image.shape[:2]
    if size is not None:
        target = int(size[0]), int(size[1])
    else:
        old, new = (min(height, width), shorter) if shorter is not None else (max(height, width), longer)
        assert new is not None
        target = max(1, round(height * new / old)), max(1, round(width * new / old))
    if min(target) < 1:
        raise ValueError(f"resize: want at least 1 x 1 pixels, got {target}")
    if not enlarge and (target[0] > height or target[1] > width):
        return arrays
    out = {**arrays, "image": resample(image, *target, method)}
    if "segmentation" in arrays:
        out["segmentation"] = _nearest(np.asarray(arrays["segmentation"]), *target)
    return out


def crop(
    arrays: Arrays, *, height: int, width: int, top: int | None = None, left: int | None = None
) -> Arrays:
    """A window of image and segmentation, in pixels, centred where top or left is not given."""
    image = check(np.asarray(arrays["image"]))
    tall, wide = image.shape[:2]
    top = (tall - height) // 2 if top is None else top
    left = (wide - width) // 2 if left is None else left
    if height < 1 or width < 1:
        raise ValueError(f"crop: want at least 1 x 1 pixels, got {height} x {width}")
    if top < 0 or left < 0 or top + height > tall or left + width > wide:
        raise BadSample(
            "too-small",
            f"crop {height} x {width} at ({top}, {left}) does not fit into {tall} x {wide}; resize first",
        )
    window = slice(top, top + height), slice(left, left + width)
    return {**arrays, **{k: np.asarray(arrays[k])[window] for k in ("image", "segmentation") if k in arrays}}


def transcode(arrays: Arrays, *, format: str, quality: int | None = None) -> Arrays:
    """Have `encode` write png, jpg or webp instead of the default PNG; arrays are made to fit that format.

    `quality` 1..100 for jpg (90 if not given) and lossy webp (lossless if not given). jpg and webp take 8
    bits, so 16-bit samples are rounded; jpg has no alpha, so it is laid over white; webp has no grey, so it
    becomes RGB. Transforms work on arrays, so the wish travels as two more fields, `format` and `quality`;
    `decode` never returns them.
    """
    target = {"jpeg": "jpg"}.get(format, format)
    if target not in ("png", "jpg", "webp"):
        raise ValueError(f"format: want png, jpg (jpeg) or webp, got {format!r}")
    if quality is not None and (target == "png" or not 1 <= quality <= 100):
        raise ValueError(f"quality: want 1..100 for jpg or webp, got {quality} for {target}")
    image = check(np.asarray(arrays["image"]))
    if target != "png":
        image = eight_bit(image)
    if target == "jpg":
        image = opaque(image)
    if target == "webp" and image.shape[2] == 1:
        image = np.repeat(image, 3, axis=2)
    out = {k: v for k, v in arrays.items() if k != "quality"}
    out |= {"image": image, "format": np.array(target)}
    return out if quality is None else out | {"quality": np.array(quality)}


def prepare(
    arrays: Arrays,
    *,
    size: int = 224,
    rng: np.random.Generator | None = None,
    mean: tuple[float, float, float] = MEAN,
    std: tuple[float, float, float] = STD,
) -> Arrays:
    """Image (3, size, size) float32, normalised; segmentation (size, size) int64 if there is one.

    Without `rng` the shorter side is resized and the centre taken; with it a random part (8..100 % of the
    area, aspect 3:4..4:3), mirrored half of the time (Szegedy et al., arXiv 1409.4842, sec. 6).
    """
    image = check(np.asarray(arrays["image"]))
    top, left, tall, wide = _centre(image) if rng is None else _random_part(image, rng)
    mirror = rng is not None and bool(rng.integers(2))
    window = slice(top, top + tall), slice(left, left + wide)
    small = rgb(resample(np.ascontiguousarray(image[window]), size, size, "bilinear"))
    pixels = (small.astype(np.float32) / 255 - np.array(mean, np.float32)) / np.array(std, np.float32)
    pixels = pixels[:, ::-1] if mirror else pixels
    out: dict[str, NDArray[Any]] = {"image": np.ascontiguousarray(pixels.transpose(2, 0, 1))}
    if "segmentation" in arrays:
        mask = _nearest(np.asarray(arrays["segmentation"])[window], size, size).astype(np.int64)
        out["segmentation"] = np.ascontiguousarray(mask[:, ::-1]) if mirror else mask
    return out


def _centre(image: Pixels) -> tuple[int, int, int, int]:
    """(top, left, height, width) of the central square."""
    height, width = image.shape[:2]
    side = min(height, width)
    return (height - side) // 2, (width - side) // 2, side, side


def _random_part(image: Pixels, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """(top, left, height, width); the central square after ten misses."""
    height, width = image.shape[:2]
    for _ in range(10):
        area = height * width * rng.uniform(0.08, 1.0)
        aspect = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
        tall, wide = round((area / aspect) ** 0.5), round((area * aspect) ** 0.5)
        if 0 < tall <= height and 0 < wide <= width:
            return int(rng.integers(height - tall + 1)), int(rng.integers(width - wide + 1)), tall, wide
    return _centre(image)


TRANSFORMS: dict[str, Callable[..., Arrays]] = {"resize": resize, "crop": crop, "transcode": transcode}
