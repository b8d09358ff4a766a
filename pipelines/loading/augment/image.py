"""Steps for pictures: arrays with `image` (h, w, c), perhaps `segmentation` (h, w)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

from modalities.base import Arrays
from modalities.image.colour import eight_bit, rgb
from modalities.image.schema import Header
from modalities.image.transforms import resample
from pipelines.loading.augment.chain import Bound, Change
from pipelines.loading.pixels import Window, decode, decode_window, mirror, plain_jpeg, resize
from pipelines.loading.reading import Contents

Rng = np.random.Generator
Area = tuple[float, float]
Opened = tuple[memoryview, Header]


@dataclass(frozen=True)
class Crop:
    """A step that takes a window, planned from the size of the picture alone."""

    plan: Callable[..., Window]

    def __call__(self, arrays: Arrays, rng: Rng, **options: Any) -> Arrays:
        return cut(arrays, self.plan(arrays["image"].shape[:2], rng, **options))


def random_window(
    shape: tuple[int, int],
    rng: Rng,
    *,
    size: int = 224,
    area: Area = (0.08, 1.0),
    aspect: Area = (3 / 4, 4 / 3),
) -> Window:
    """A part of `area` of the picture, its sides in the ratio `aspect`; the central square after ten misses.

    Szegedy et al., arXiv 1409.4842, sec. 6.
    """
    height, width = shape
    for _ in range(10):
        part = height * width * rng.uniform(*area)
        ratio = np.exp(rng.uniform(np.log(aspect[0]), np.log(aspect[1])))
        tall, wide = round((part / ratio) ** 0.5), round((part * ratio) ** 0.5)
        if 0 < tall <= height and 0 < wide <= width:
            top, left = int(rng.integers(height - tall + 1)), int(rng.integers(width - wide + 1))
            return Window(top, left, tall, wide, (size, size))
    return central_window(shape, rng, size=size)


def central_window(shape: tuple[int, int], rng: Rng | None, *, size: int = 224) -> Window:
    """The central square."""
    side = min(shape)
    return Window((shape[0] - side) // 2, (shape[1] - side) // 2, side, side, (size, size))


def whole_window(shape: tuple[int, int], rng: Rng | None, *, size: int = 224) -> Window:
    """Everything, squeezed into a square."""
    return Window(0, 0, *shape, (size, size))


def cut(arrays: Arrays, where: Window) -> Arrays:
    """A window of picture and annotation, at its size; the annotation by nearest neighbours."""
    here = slice(where.top, where.top + where.height), slice(where.left, where.left + where.width)
    out = {**arrays, "image": resize(rgb(np.asarray(arrays["image"]))[here], where.size)}
    if "segmentation" in arrays:
        mask = np.ascontiguousarray(arrays["segmentation"][here])
        out["segmentation"] = resample(mask[..., None], *where.size, "nearest")[..., 0]
    return out


def open(contents: Contents) -> Opened | None:
    """The JPEG of a sample and its header, where it is a plain one."""
    return plain_jpeg(contents)


def start(
    found: Opened, steps: Sequence[Bound], rng: Rng | None, place: Callable[..., NDArray[Any]] | None
) -> tuple[Arrays, Sequence[Bound]]:
    """A plain JPEG is decoded at the scale of the first crop, or into its batch when there is no step."""
    data, header = found
    crop, options = steps[0] if steps else (None, {})
    if isinstance(crop, Crop):
        window = crop.plan((header.height, header.width), rng, **options)
        return {"image": decode_window(data, header, window)}, steps[1:]
    into = (lambda shape: place("image", shape, np.uint8)) if place and not steps else None
    return {"image": decode(data, header, into)}, steps


def flip(arrays: Arrays, rng: Rng, *, probability: float = 0.5) -> Arrays:
    """Left and right exchanged."""
    if rng.random() >= probability:
        return arrays
    turned = {**arrays, "image": mirror(np.asarray(arrays["image"]))}
    if "segmentation" in arrays:
        turned["segmentation"] = np.ascontiguousarray(arrays["segmentation"][:, ::-1])
    return turned


def flip_vertical(arrays: Arrays, rng: Rng, *, probability: float = 0.5) -> Arrays:
    """Top and bottom exchanged."""
    return _turned(arrays, lambda a: a[::-1]) if rng.random() < probability else arrays


def quarter_turns(arrays: Arrays, rng: Rng) -> Arrays:
    """None to three quarter turns, for pictures without an up."""
    turns = int(rng.integers(4))
    return _turned(arrays, lambda a: np.rot90(a, turns))


def _turned(arrays: Arrays, how: Callable[[NDArray[Any]], NDArray[Any]]) -> Arrays:
    there = [name for name in ("image", "segmentation") if name in arrays]
    return {**arrays, **{name: np.ascontiguousarray(how(arrays[name])) for name in there}}


def colour(
    arrays: Arrays,
    rng: Rng,
    *,
    brightness: float = 0.4,
    contrast: float = 0.4,
    saturation: float = 0.4,
    hue: float = 0.1,
) -> Arrays:
    """Factors of 1 -+ the number for the first three, a turn of -+ `hue` of the circle; in a random order."""
    picture = _picture(arrays)
    enhancers = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
    factors = [rng.uniform(max(0, 1 - spread), 1 + spread) for spread in (brightness, contrast, saturation)]
    turn = rng.uniform(-hue, hue)
    for i in rng.permutation(4):
        picture = _hue(picture, turn) if i == 3 else enhancers[i](picture).enhance(factors[i])
    return {**arrays, "image": np.asarray(picture)}


def _hue(picture: Image.Image, turn: float) -> Image.Image:
    if turn == 0:
        return picture
    hue, saturation, value = picture.convert("HSV").split()
    turned = Image.fromarray(np.asarray(hue) + np.uint8(round(turn * 255) % 256))
    return Image.merge("HSV", (turned, saturation, value)).convert("RGB")


def grey(arrays: Arrays, rng: Rng, *, probability: float = 0.2) -> Arrays:
    """Without colour, in three equal channels."""
    if rng.random() >= probability:
        return arrays
    return {**arrays, "image": np.asarray(ImageOps.grayscale(_picture(arrays)).convert("RGB"))}


def erase(arrays: Arrays, rng: Rng, *, probability: float = 0.25, area: Area = (0.02, 0.33)) -> Arrays:
    """A rectangle of noise (Zhong et al., arXiv 1708.04896, alg. 1)."""
    if rng.random() >= probability:
        return arrays
    image = rgb(np.asarray(arrays["image"])).copy()
    window = random_window(image.shape[:2], rng, area=area, aspect=(0.3, 1 / 0.3))
    shape = window.height, window.width, 3
    here = slice(window.top, window.top + window.height), slice(window.left, window.left + window.width)
    image[here] = rng.integers(0, 256, shape, dtype=np.uint8)
    return {**arrays, "image": image}


def _picture(arrays: Arrays) -> Image.Image:
    return Image.fromarray(rgb(eight_bit(np.asarray(arrays["image"]))))


# RandAugment's operations at strength 0..1; those that move pixels move the annotation, too.
_TONES: dict[str, Callable[[Image.Image, float, Rng], Image.Image]] = {
    "identity": lambda p, s, r: p,
    "autocontrast": lambda p, s, r: ImageOps.autocontrast(p),
    "equalize": lambda p, s, r: ImageOps.equalize(p),
    "posterize": lambda p, s, r: ImageOps.posterize(p, 8 - round(4 * s)),
    "solarize": lambda p, s, r: ImageOps.solarize(p, round(256 * (1 - s))),
    "brightness": lambda p, s, r: ImageEnhance.Brightness(p).enhance(1 + _signed(0.9 * s, r)),
    "contrast": lambda p, s, r: ImageEnhance.Contrast(p).enhance(1 + _signed(0.9 * s, r)),
    "color": lambda p, s, r: ImageEnhance.Color(p).enhance(1 + _signed(0.9 * s, r)),
    "sharpness": lambda p, s, r: ImageEnhance.Sharpness(p).enhance(1 + _signed(0.9 * s, r)),
}
_MOVES = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")


def _signed(size: float, rng: Rng) -> float:
    return size if rng.random() < 0.5 else -size


def rand_augment(arrays: Arrays, rng: Rng, *, number: int = 2, magnitude: float = 9.0) -> Arrays:
    """`number` of fourteen operations, each at `magnitude` of 10 (Cubuk et al., arXiv 1909.13719, sec. 3)."""
    picture, mask = _picture(arrays), arrays.get("segmentation")
    names = [*_TONES, *_MOVES]
    for _ in range(number):
        name = names[int(rng.integers(len(names)))]
        if name in _TONES:
            picture = _TONES[name](picture, magnitude / 10, rng)
            continue
        matrix = _move(name, _signed(magnitude / 10, rng), picture.size)
        grey = (128, 128, 128)
        picture = picture.transform(
            picture.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR, fillcolor=grey
        )
        if mask is not None:
            mask = _moved_mask(np.asarray(mask), matrix)
    out = {**arrays, "image": np.asarray(picture)}
    return out if mask is None else {**out, "segmentation": mask}


def _move(name: str, strength: float, size: tuple[int, int]) -> tuple[float, ...]:
    """Coefficients a..f of the inverse map x' = a x + b y + c, y' = d x + e y + f, about the middle."""
    x, y = size[0] / 2, size[1] / 2
    angle = np.deg2rad(30) * strength if name == "rotate" else 0.0
    cos, sin = float(np.cos(angle)), float(np.sin(angle))
    b = sin + (0.3 * strength if name == "shear_x" else 0)
    d = -sin + (0.3 * strength if name == "shear_y" else 0)
    c = 0.45 * strength * size[0] if name == "translate_x" else 0
    f = 0.45 * strength * size[1] if name == "translate_y" else 0
    return cos, b, x - cos * x - b * y + c, d, cos, y - d * x - cos * y + f


def _moved_mask(mask: NDArray[Any], matrix: tuple[float, ...]) -> NDArray[Any]:
    plane = Image.fromarray(mask.astype(np.int32))
    moved = plane.transform(plane.size, Image.Transform.AFFINE, matrix, Image.Resampling.NEAREST)
    return np.asarray(moved).astype(mask.dtype)


STEPS: dict[str, Change] = {
    "random_resized_crop": Crop(random_window),
    "center_crop": Crop(central_window),
    "resize": Crop(whole_window),
    "flip": flip,
    "flip_vertical": flip_vertical,
    "quarter_turns": quarter_turns,
    "colour": colour,
    "grey": grey,
    "erase": erase,
    "rand_augment": rand_augment,
}
