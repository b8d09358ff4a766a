"""What is said of a file without making all of its pixels, beside what is said of the pixels."""

from collections.abc import Callable, Mapping
from functools import cache
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter

from modalities.base import BadSample, Raw
from modalities.image import MODALITY
from modalities.image.quality import halvings


@cache
def natural(seed: int, width: int = 500, height: int = 375) -> Image.Image:
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width, 3))
    for cells, weight in ((3, 50), (9, 30), (40, 15)):
        coarse = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), np.uint8))
        total += (np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)) / 127.5 - 1) * weight
    return Image.fromarray((total + 128 + rng.normal(0, 4, total.shape)).clip(0, 255).astype(np.uint8))


def saved(image: Image.Image, form: str = "JPEG", **options: Any) -> dict[str, bytes]:
    image.save(out := BytesIO(), form, **options)
    return {{"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}[form]: out.getvalue()}


def measured(files: Mapping[str, bytes]) -> tuple[Mapping[str, float], int]:
    [(ext, data)] = files.items()
    return MODALITY.measured(files, MODALITY.probe(Raw(name=f"a.{ext}", content=data)))


def judged(files: Mapping[str, bytes]) -> tuple[Mapping[str, float], int]:
    arrays = MODALITY.decode(files)
    return MODALITY.quality(arrays), MODALITY.fingerprint(arrays)


def oriented(number: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = number
    return exif


JPEGS: dict[str, dict[str, Any]] = {
    "plain": {}, "coarse": {"quality": 30}, "progressive": {"progressive": True}, "4:4:4": {"subsampling": 0},
    "4:2:2": {"subsampling": 1}, "restarts": {"restart_marker_rows": 1}, "turned": {"exif": oriented(6)},
    "mirrored": {"exif": oriented(7)}, "stored as RGB": {"keep_rgb": True},
}  # fmt: skip


@pytest.mark.parametrize("size", [(500, 375), (321, 643), (90, 130), (9, 2)])
@pytest.mark.parametrize("name", JPEGS)
def test_a_jpeg_is_judged_as_its_pixels_are(name: str, size: tuple[int, int]) -> None:
    files = saved(natural(1, *size), **{"quality": 90, **JPEGS[name]})
    (numbers, print_), (want, want_print) = measured(files), judged(files)
    assert numbers["aspect"] == want["aspect"]
    for key, tolerance in (("exposure", 0.004), ("contrast", 0.006), ("saturation", 0.01), ("entropy", 0.15)):
        assert numbers[key] == pytest.approx(want[key], abs=tolerance), key
    assert numbers["blur"] == pytest.approx(want["blur"], rel=0.1)
    assert (print_ ^ want_print).bit_count() <= (4 if min(size) > 16 else 8)


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_grey_and_cmyk_jpegs_are_judged_too(mode: str) -> None:
    files = saved(natural(2).convert(mode), quality=95)
    (numbers, print_), (want, want_print) = measured(files), judged(files)
    assert numbers["blur"] == pytest.approx(want["blur"], rel=0.1)
    assert (print_ ^ want_print).bit_count() <= 2


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_other_formats_are_decoded_whole(form: str) -> None:
    files = saved(natural(3, 400, 330), form)
    assert measured(files) == judged(files)


def test_a_large_picture_is_judged_like_its_halved_copy() -> None:
    large = natural(4, 720, 650).filter(ImageFilter.GaussianBlur(1.5))
    assert halvings(650, 720) == 2
    assert [halvings(*sides) for sides in ((159, 900), (319, 320), (320, 320), (5000, 6000))] == [0, 0, 1, 3]
    (numbers, print_) = measured(saved(large, "PNG"))
    (halved, halved_print) = measured(saved(large.reduce(4), "PNG"))
    assert numbers["blur"] == pytest.approx(halved["blur"], rel=0.15)
    assert numbers["entropy"] == pytest.approx(halved["entropy"], abs=0.05)
    assert (print_ ^ halved_print).bit_count() <= 2


@pytest.mark.parametrize("name", ["plain", "progressive", "restarts", "4:4:4"])
def test_every_damage_that_decoding_notices_is_noticed(name: str, refuses: Callable[[Any], bool]) -> None:
    [(ext, data)] = saved(natural(5, 330, 320), **{"quality": 80, **JPEGS[name]}).items()
    rng = np.random.default_rng(0)
    noticed = 0
    for number in range(45):
        broken = bytearray(data)
        at = int(rng.integers(200, len(data) - 2))
        if number % 3 == 0:
            del broken[at:-2]
        else:
            broken[at : at + 4] = rng.integers(0, 256, 4, np.uint8).tobytes()
        files = {ext: bytes(broken)}
        if refuses(lambda files=files: judged(files)):
            noticed += 1
            assert refuses(lambda files=files: measured(files)), f"{name} {number} at {at}"
    assert noticed > 12


def test_a_broken_mask_beside_a_jpeg_is_refused() -> None:
    files = saved(natural(6, 64, 48))
    meta = MODALITY.probe(Raw(name="a.jpg", content=files["jpg"]))
    mask = saved(Image.new("L", (64, 48)), "PNG")["png"]
    MODALITY.measured({**files, "seg.png": mask}, meta)
    with pytest.raises(BadSample, match=r"truncated|corrupt"):
        MODALITY.measured({**files, "seg.png": mask[:60]}, meta)
