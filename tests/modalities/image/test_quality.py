"""Numbers that move the way their names say, and a hash that knows its own."""

from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from modalities.image import MODALITY
from modalities.image.synth import CLASSES

quality, fingerprint = MODALITY.quality, MODALITY.fingerprint


def photo(seed: int = 0, side: int = 160) -> Image.Image:
    """Something like a picture: big blobs, small blobs, noise."""
    rng = np.random.default_rng(seed)
    total = np.zeros((side, side, 3))
    for cells, weight in ((4, 60), (12, 30), (40, 12)):
        coarse = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), np.uint8))
        total += (np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC)) / 127.5 - 1) * weight
    return Image.fromarray((total + 128 + rng.normal(0, 2, total.shape)).clip(0, 255).astype(np.uint8))


def of(image: Any) -> dict[str, NDArray[Any]]:
    pixels = np.asarray(image)
    return {"image": pixels if pixels.ndim == 3 else pixels[..., None]}


def distance(a: Any, b: Any) -> int:
    return (fingerprint(of(a)) ^ fingerprint(of(b))).bit_count()


def test_blur_falls_when_a_picture_is_blurred() -> None:
    values = [quality(of(photo().filter(ImageFilter.GaussianBlur(r))))["blur"] for r in (0, 1, 3)]
    assert values[0] > 5 * values[1] > 5 * values[2] > 0


def test_blur_is_the_variance_of_opencvs_laplacian() -> None:
    for side, tolerance in ((100, 1e-12), (310, 0.05)):  # of the larger one some rows are looked at
        grey = np.asarray(photo(side=side).convert("L"))
        expected = cv2.Laplacian(grey, cv2.CV_64F)[1:-1, 1:-1].var()
        assert quality(of(grey))["blur"] == pytest.approx(expected, rel=tolerance)


def test_exposure_contrast_and_entropy_are_those_of_the_luminance() -> None:
    for side, tolerance in ((100, 2e-5), (310, 0.01)):
        image = photo(side=side)
        grey, values = np.asarray(image.convert("L")), quality(of(image))
        assert values["exposure"] == pytest.approx(grey.mean() / 255, abs=tolerance)
        assert values["contrast"] == pytest.approx(grey.std() / 255, abs=tolerance)
        assert values["entropy"] == pytest.approx(image.convert("L").entropy(), abs=10 * tolerance)
        assert values["aspect"] == 1


def test_saturation_is_the_share_of_clipped_pixels() -> None:
    image = np.full((10, 10, 1), 128, np.uint8)
    image[:3], image[3] = 255, 0
    assert quality(of(image))["saturation"] == 0.4


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 9, 3), (3, 3, 4), (97, 61, 1), (159, 300, 3)])
def test_flat_pictures_have_numbers_too(shape: Any) -> None:
    for dtype in (np.uint8, np.uint16):
        values = quality({"image": np.full(shape, 9, dtype)})
        assert np.isfinite(list(values.values())).all()
        assert values["blur"] == values["contrast"] == values["entropy"] == 0
        assert fingerprint({"image": np.full(shape, 9, dtype)}) == 0


def test_one_grey_level_in_one_pixel_is_no_structure() -> None:
    image = np.full((32, 32, 1), 100, np.uint8)
    image[5, 7] = 101
    assert fingerprint({"image": image}) == 0


def test_16_bits_are_judged_like_their_8_bit_copy() -> None:
    shallow = np.asarray(photo())
    deep = shallow.astype(np.uint16) * 257
    assert quality(of(deep)) == quality(of(shallow))
    assert fingerprint(of(deep)) == fingerprint(of(shallow))


def variants(image: Image.Image) -> dict[str, Image.Image]:
    image.save(out := BytesIO(), "JPEG", quality=40)
    wide, tall = image.size
    return {
        "encoded again": Image.open(out),
        "smaller": image.resize((wide // 3, tall // 3), Image.Resampling.LANCZOS),
        "larger": image.resize((wide * 2, tall * 2), Image.Resampling.BICUBIC),
        "squeezed": image.resize((wide, tall // 2), Image.Resampling.BICUBIC),
        "brighter": image.point(lambda v: min(255, v + 25)),
        "less contrast": image.point(lambda v: int(64 + v * 0.5)),
        "grey": image.convert("L"),
    }


def test_hash_stays_near_for_copies_and_far_for_others() -> None:
    originals = [photo(seed) for seed in range(8)]
    for image in originals:
        for name, copy in variants(image).items():
            assert distance(image, copy) <= 8, name
    others = [distance(a, b) for i, a in enumerate(originals) for b in originals[:i]]
    assert min(others) >= 14
    assert 28 < np.mean(others) < 36


def test_hash_tells_photographs_apart_and_knows_their_copies(shared_data: Path) -> None:
    images = [Image.open(p).convert("RGB") for p in sorted((shared_data / "images").glob("*.JPEG"))]
    hashes = [fingerprint(of(image)) for image in images]
    apart = [(a ^ b).bit_count() for i, a in enumerate(hashes) for b in hashes[:i]]
    copies = [distance(image, copy) for image in images[::10] for copy in variants(image).values()]
    assert max(copies) < min(apart)


@pytest.mark.parametrize("seed", range(6))
def test_synth_depends_only_on_its_seed_and_names_its_class(seed: int) -> None:
    files = MODALITY.synth(seed)
    assert files == MODALITY.synth(seed)
    assert files["cls"].decode() == CLASSES[seed]
    arrays = MODALITY.decode(files)
    assert all(64 <= n <= 96 for n in arrays["image"].shape[:2])
    assert set(np.unique(arrays["segmentation"])) == {0, seed + 1}


def test_synthetic_shapes_can_be_told_apart_by_a_tiny_linear_model() -> None:
    def features(seed: int) -> NDArray[Any]:
        image = MODALITY.prepare(MODALITY.decode(MODALITY.synth(seed)), size=24, rng=None)["image"]
        edges = np.hypot(*np.gradient(image.mean(0)))
        return np.append(np.abs(np.fft.rfft2(edges)).ravel(), 1)

    seeds = np.arange(600)
    x, y = np.stack([features(int(s)) for s in seeds]), np.eye(6)[seeds % 6]
    x = x / x.mean(0)
    weights = np.linalg.solve(x[:480].T @ x[:480] + 10 * np.eye(x.shape[1]), x[:480].T @ y[:480])
    accuracy = ((x[480:] @ weights).argmax(1) == y[480:].argmax(1)).mean()
    assert accuracy > 0.6  # chance is 0.17
