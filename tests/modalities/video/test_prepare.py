"""Model-ready arrays of a fixed shape."""

import numpy as np
import pytest

from modalities.base import Arrays
from modalities.video.prepare import prepare


@pytest.fixture
def video() -> Arrays:
    """Frame number in red, row in green, column in blue."""
    t, h, w = 20, 60, 80
    frames = np.zeros((t, h, w, 3), np.uint8)
    frames[..., 0] += np.arange(t, dtype=np.uint8)[:, None, None] * 10
    frames[..., 1] += np.arange(h, dtype=np.uint8)[:, None] * 3
    frames[..., 2] += np.arange(w, dtype=np.uint8) * 3
    return {"frames": frames, "times": 4 + np.arange(t) / 10}


def test_shape_type_and_range(video: Arrays) -> None:
    for rng in (None, np.random.default_rng(0)):
        out = prepare(video, frames=5, size=32, rng=rng)
        assert out["video"].shape == (3, 5, 32, 32)
        assert out["times"].shape == (5,)
        assert out["video"].dtype == out["times"].dtype == np.float32
        assert -1 <= out["video"].min() < out["video"].max() <= 1


def test_without_chance_it_is_the_middle_of_equal_spans(video: Arrays) -> None:
    out = prepare(video, frames=4, size=60)
    np.testing.assert_allclose(out["times"], [0.2, 0.7, 1.2, 1.7], atol=1e-6)
    picture = (out["video"].transpose(1, 2, 3, 0) + 1) * 127.5
    np.testing.assert_allclose(picture, video["frames"][[2, 7, 12, 17], :, 10:70], atol=1e-3)


def test_times_count_even_when_frames_are_uneven(video: Arrays) -> None:
    uneven = {"frames": video["frames"][:4], "times": np.array([0.0, 0.1, 0.2, 3.0])}
    out = prepare(uneven, frames=4, size=8)
    np.testing.assert_allclose(out["times"], [0, 0.2, 0.2, 3.0], atol=0.21)
    assert (out["times"] == np.float32(0.2)).sum() >= 2


def test_one_window_holds_for_all_frames(video: Arrays) -> None:
    out = prepare(video, frames=6, size=16, rng=np.random.default_rng(3))
    for channel in (1, 2):
        np.testing.assert_array_equal(
            out["video"][channel], np.broadcast_to(out["video"][channel, :1], (6, 16, 16))
        )
    assert (np.diff(out["times"]) > 0).all()


def test_the_same_generator_gives_the_same_arrays(video: Arrays) -> None:
    once, again = (prepare(video, rng=np.random.default_rng(5), flip=0.5) for _ in range(2))
    np.testing.assert_array_equal(once["video"], again["video"])
    other = prepare(video, rng=np.random.default_rng(6), flip=0.5)
    assert not np.array_equal(once["video"], other["video"])


def test_flipping_happens_only_when_asked(video: Arrays) -> None:
    def rightward(flip: float) -> list[bool]:
        outs = [prepare(video, size=16, rng=np.random.default_rng(s), flip=flip)["video"] for s in range(12)]
        return [bool(out[2, 0, 0, -1] > out[2, 0, 0, 0]) for out in outs]

    assert all(rightward(0.0))
    assert not any(rightward(1.0))
    assert len(set(rightward(0.5))) == 2


def test_few_frames_are_repeated_not_invented(video: Arrays) -> None:
    out = prepare({"frames": video["frames"][:1], "times": np.array([9.0])}, frames=3, size=8)
    assert out["video"].shape == (3, 3, 8, 8)
    np.testing.assert_array_equal(out["times"], [0, 0, 0])


def test_options_out_of_range_are_refused(video: Arrays) -> None:
    with pytest.raises(ValueError, match=r"want frames, size >= 1 .* got 0, 112, 0\.5"):
        prepare(video, frames=0)
