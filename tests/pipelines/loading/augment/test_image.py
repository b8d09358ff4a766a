"""Steps for pictures."""

from io import BytesIO
from typing import Any

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from modalities import image
from pipelines.loading.augment import Chain
from pipelines.loading.augment.image import random_window
from pipelines.loading.order import sample_rng


def picture(height: int = 120, width: int = 160, seed: int = 0) -> Any:
    """Smooth colours, as a photograph has them."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def jpeg(pixels: Any) -> bytes:
    return bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality=95))


def decoded(chain: Chain, files: Any, key: str = "a") -> Any:
    return chain.arrays(files, sample_rng(0, 0, key), chain.open(files))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("step", ["random_resized_crop", "center_crop"])
def test_scaled_decoding_gives_the_picture_of_full_decoding(step: str, seed: int) -> None:
    data = jpeg(picture(480, 640, seed))
    chain = Chain("image", [{step: {"size": 40}}])
    fast = decoded(chain, {"jpg": memoryview(data)}, str(seed))["image"]
    slow = chain.apply(image.MODALITY.decode({"jpg": data}), sample_rng(0, 0, str(seed)))["image"]
    assert fast.shape == slow.shape == (40, 40, 3)
    assert np.abs(fast.astype(int) - slow).mean() < 5  # a shift by half a pixel, on steep colours


def test_scaled_decoding_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    real = simplejpeg.decode_jpeg

    def spy(*args: Any, **options: Any) -> Any:
        sizes.append((pixels := real(*args, **options)).shape)
        return pixels

    monkeypatch.setattr("pipelines.loading.pixels.simplejpeg.decode_jpeg", spy)
    chain = Chain("image", [{"center_crop": {"size": 40}}])
    decoded(chain, {"jpg": memoryview(jpeg(picture(480, 640)))})
    assert sizes == [(60, 80, 3)]


def test_turned_and_annotated_pictures_go_the_common_way() -> None:
    turned = BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture()).save(turned, "JPEG", exif=exif)
    files = {"jpg": memoryview(turned.getvalue())}
    assert decoded(Chain("image", []), files)["image"].shape == (160, 120, 3)
    mask = BytesIO()
    Image.fromarray((np.arange(120 * 160).reshape(120, 160) % 7).astype(np.uint8)).save(mask, "PNG")
    both = {"jpg": memoryview(jpeg(picture())), "seg.png": memoryview(mask.getvalue())}
    out = decoded(Chain("image", [{"random_resized_crop": {"size": 32}}]), both)
    assert (out["image"].shape, out["segmentation"].shape) == ((32, 32, 3), (32, 32))


@pytest.mark.parametrize(
    "step", ["flip", "flip_vertical", "quarter_turns", "random_resized_crop", "rand_augment"]
)
def test_the_annotation_moves_with_the_picture(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The picture is painted with its own classes, so that they can be read from it afterwards."""
    monkeypatch.setattr("pipelines.loading.augment.image._TONES", {})
    classes = np.kron(np.arange(12).reshape(3, 4), np.ones((40, 40), int)).astype(np.uint8)
    arrays = {"image": np.repeat(classes[..., None] * 20, 3, axis=2), "segmentation": classes}
    name: Any = {"random_resized_crop": {"size": 64}} if step == "random_resized_crop" else step
    agreed = []
    for seed in range(20):
        out = Chain("image", [name]).apply(arrays, sample_rng(0, 0, str(seed)))
        assert out["segmentation"].dtype == np.uint8
        shown, said = out["image"][..., 0], out["segmentation"]
        inside = shown != 128  # what was moved in from outside is grey
        agreed.append((np.rint(shown / 20) == said)[inside].mean())
    assert min(agreed) > 0.85


def test_windows_keep_to_area_and_aspect() -> None:
    for seed in range(50):
        window = random_window((300, 400), sample_rng(0, 0, str(seed)), area=(0.2, 0.6), aspect=(0.5, 2))
        assert 0.19 < window.height * window.width / 120_000 < 0.61
        assert 0.49 < window.width / window.height < 2.05
        assert 0 <= window.top <= 300 - window.height
        assert 0 <= window.left <= 400 - window.width


def test_without_strength_nothing_changes() -> None:
    arrays = {"image": picture()}
    for step in (
        {"colour": {"brightness": 0, "contrast": 0, "saturation": 0, "hue": 0}},
        {"flip": {"probability": 0}},
        {"grey": {"probability": 0}},
        {"erase": {"probability": 0}},
        {"rand_augment": {"number": 0}},
    ):
        out = Chain("image", [step]).apply(arrays, sample_rng(0, 0, "a"))
        assert np.array_equal(out["image"], arrays["image"]), step


def test_hue_goes_round() -> None:
    red = {"image": np.full((4, 4, 3), (255, 0, 0), np.uint8)}
    turned = [
        Chain("image", [{"colour": {"brightness": 0, "contrast": 0, "saturation": 0, "hue": 0.34}}]).apply(
            red, sample_rng(0, 0, str(seed))
        )["image"][0, 0]
        for seed in range(30)
    ]
    assert {int(colour.argmax()) for colour in turned} == {0, 1, 2}
