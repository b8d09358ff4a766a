"""Numbers that move the way their names say."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from modalities.base import Arrays
from modalities.video.codec import sample
from modalities.video.quality import quality


def video(frames: Any) -> Arrays:
    return {"frames": np.asarray(frames, np.uint8), "times": np.arange(len(frames)) / 25}


def test_blurring_lowers_blur_and_leaves_the_light(moving: Any) -> None:
    sharp, blurred = quality(video(moving)), quality(video(gaussian_filter(moving, (0, 2, 2, 0))))
    assert blurred["blur"] < sharp["blur"] / 2
    assert blurred["exposure"] == pytest.approx(sharp["exposure"], abs=0.02)


def test_exposure_contrast_and_clipping_follow_the_light(moving: Any) -> None:
    normal, dark = quality(video(moving)), quality(video(moving // 4))
    assert dark["exposure"] == pytest.approx(normal["exposure"] / 4, abs=0.01)
    assert dark["contrast"] < normal["contrast"]
    white = quality(video(np.full((4, 8, 8, 3), 255)))
    assert (white["exposure"], white["saturation"], white["black"]) == (pytest.approx(1), 1, 0)


def test_motion_and_stillness(moving: Any) -> None:
    moved, still = quality(video(moving)), quality(video(np.repeat(moving[:1], 13, 0)))
    assert (still["motion"], still["static"]) == (0, 1)
    assert moved["motion"] > 0.005
    assert moved["static"] == 0
    faster = quality(video(moving[::2]))
    assert faster["motion"] > 1.3 * moved["motion"]


def test_motion_is_the_mean_change_of_brightness(moving: Any) -> None:
    luma = moving.astype(float) @ np.array([0.299, 0.587, 0.114]) / 255
    assert quality(video(moving))["motion"] == pytest.approx(np.abs(np.diff(luma, axis=0)).mean(), rel=0.02)


def test_black_frames_are_counted(moving: Any) -> None:
    half = np.concatenate([moving[:8], np.zeros_like(moving[:8])])
    assert quality(video(half))["black"] == pytest.approx(0.5, abs=0.07)


def test_one_frame_has_no_motion(moving: Any) -> None:
    numbers = quality(video(moving[:1]))
    assert (numbers["motion"], numbers["static"], numbers["fps"], numbers["duration_s"]) == (0, 1, 0, 0)
    assert all(np.isfinite(value) for value in numbers.values())


def test_numbers_mean_what_they_mean_for_pictures(moving: Any) -> None:
    from modalities.image import MODALITY

    picture, clip = MODALITY.quality({"image": moving[0]}), quality(video(moving[:1]))
    for name in ("blur", "exposure", "contrast", "entropy", "saturation"):
        assert clip[name] == pytest.approx(picture[name], rel=0.02), name


@pytest.mark.parametrize("name", ["demo.mp4", "test.avi"])
def test_real_clips_have_sane_numbers(name: str, shared_data: Path) -> None:
    path = shared_data / "video" / name
    numbers = quality(sample({path.suffix[1:]: path.read_bytes()}))
    assert 0.1 < numbers["exposure"] < 0.9
    assert 0 < numbers["motion"] < 0.3
    assert numbers["blur"] > 50
    assert numbers["black"] == 0
    assert all(isinstance(value, float) for value in numbers.values())
