"""Changes that a job asked for, and nothing else."""

import re
from typing import Any

import numpy as np
import pytest

from modalities.base import Arrays
from modalities.video.codec import decode, encode
from modalities.video.transforms import frames, resize, transcode


@pytest.fixture
def video(moving: Any) -> Arrays:
    times = np.cumsum([0.5, *[0.02, 0.1, 0.033, 0.5] * 3]).round(6)
    return {"frames": moving, "times": times, "num_frames": np.array(13)}


def test_sampling_by_time_takes_what_is_on_screen(video: Arrays) -> None:
    fewer = frames(video, every_s=0.25)
    for at, got in zip(0.5 + 0.25 * np.arange(8), fewer["times"], strict=False):
        shown = video["times"][video["times"] <= at + 1e-6].max()
        assert shown in fewer["times"]
        assert got in video["times"]
    assert fewer["num_frames"] == len(fewer["frames"]) == len(fewer["times"]) < 13
    assert (np.diff(fewer["times"]) > 0).all()
    steady = {"frames": video["frames"], "times": np.arange(13) / 8}
    np.testing.assert_array_equal(frames(steady, every_s=0.5)["times"], [0, 0.5, 1, 1.5])
    np.testing.assert_array_equal(frames(steady, every_s=0.5)["frames"], video["frames"][::4])


def test_sampling_by_number_is_even(video: Arrays) -> None:
    np.testing.assert_array_equal(frames(video, num=3)["frames"], video["frames"][[2, 6, 10]])
    assert len(frames(video, num=99)["frames"]) == 13


def test_resizing_keeps_proportions_times_and_the_mean(video: Arrays) -> None:
    small = resize(video, shorter=48)
    assert small["frames"].shape == (13, 48, 64, 3)
    np.testing.assert_array_equal(small["times"], video["times"])
    boxes = video["frames"].reshape(13, 48, 2, 64, 2, 3).mean(axis=(2, 4))
    assert np.abs(small["frames"] - boxes).mean() < 1.5
    assert resize(video, height=10, width=7)["frames"].shape == (13, 10, 7, 3)
    assert resize(video, height=96, width=128)["frames"] is video["frames"]


@pytest.mark.parametrize(("codec", "extension"), [("h264", "mp4"), ("vp9", "webm"), ("av1", "mp4")])
def test_transcoding_is_lossy_small_and_repeatable(codec: str, extension: str, video: Arrays) -> None:
    asked = transcode(video, codec=codec, crf=25)
    np.testing.assert_array_equal(asked["frames"], video["frames"])
    files = encode(asked)
    assert list(files) == [extension]
    assert files == encode(transcode(video, codec=codec, crf=25))
    assert len(files[extension]) < len(encode(video)["mp4"]) / 4
    again = decode(files)
    error = np.abs(again["frames"].astype(int) - video["frames"]).mean()
    assert 0 < error < 8
    np.testing.assert_allclose(again["times"], video["times"], atol=5.1e-4 if extension == "webm" else 0)


def test_odd_sides_grow_by_a_pixel_when_colour_is_halved(video: Arrays) -> None:
    odd = {**video, "frames": video["frames"][:, :31, :33]}
    assert decode(encode(transcode(odd)))["frames"].shape == (13, 32, 34, 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda v: frames(v), "give every_s or num, got every_s=None, num=None"),
        (lambda v: frames(v, every_s=1, num=2), "got every_s=1, num=2"),
        (lambda v: frames(v, every_s=0), "every_s must be above 0, got 0"),
        (lambda v: frames(v, num=0), "num must be at least 1, got 0"),
        (lambda v: resize(v), "give shorter, or height and width"),
        (lambda v: resize(v, shorter=3, height=4), "got shorter=3, height=4"),
        (lambda v: resize(v, height=0, width=4), "at least 1 pixel, got 0x4"),
        (lambda v: resize(v, height=60000, width=60000), "too-large"),
        (lambda v: transcode(v, codec="hevc"), "codec must be one of .* got 'hevc'"),
        (lambda v: transcode(v, crf=-1), "crf of h264 must be 0 to 51, got -1"),
    ],
)
def test_options_out_of_range_are_refused(call: Any, message: str, video: Arrays) -> None:
    with pytest.raises((ValueError, LookupError)) as error:
        call(video)
    assert re.search(message, str(error.value))
