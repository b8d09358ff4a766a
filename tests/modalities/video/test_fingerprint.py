"""Near for the same video in other clothes, far for another one."""

from pathlib import Path

import numpy as np
import pytest

from modalities.base import Arrays
from modalities.video.codec import decode, encode, sample
from modalities.video.fingerprint import fingerprint
from modalities.video.synth import synth
from modalities.video.transforms import frames, resize, transcode

NAMES = ("blocks.mp4", "demo.mp4", "dog.mp4", "juggle.mp4", "pancake.mkv", "test.avi")


@pytest.fixture(scope="module")
def real(shared_data: Path) -> dict[str, Arrays]:
    paths = [shared_data / "video" / name for name in NAMES]
    return {p.name: resize(sample({p.suffix[1:]: p.read_bytes()}), shorter=180) for p in paths}


def apart(a: int, b: int) -> int:
    return (a ^ b).bit_count()


@pytest.mark.parametrize("name", NAMES)
def test_codec_size_and_frame_rate_leave_it_near(name: str, real: dict[str, Arrays]) -> None:
    original = real[name]
    whole = frames(original, num=32)
    variants = {
        "codec": decode(encode(transcode(whole, crf=35))),
        "size": resize(whole, shorter=72),
        "proportions": resize(whole, height=120, width=120),
        "rate": frames(whole, num=24),
        "light": {**whole, "frames": np.clip(whole["frames"] * 0.9 + 8, 0, 255).astype(np.uint8)},
    }
    far = {key: apart(fingerprint(original), fingerprint(value)) for key, value in variants.items()}
    assert max(far.values()) <= 8, far
    assert 0 <= fingerprint(original) < 2**64


def test_other_videos_are_far(real: dict[str, Arrays]) -> None:
    hashes = [fingerprint(arrays) for arrays in real.values()]
    far = [apart(a, b) for i, a in enumerate(hashes) for b in hashes[:i]]
    assert min(far) >= 16, far


def test_motion_alone_tells_videos_apart() -> None:
    arrays = decode(synth(1))
    backwards = {**arrays, "frames": arrays["frames"][::-1]}
    assert apart(fingerprint(arrays), fingerprint(backwards)) >= 4


def test_a_still_video_hashes_by_its_picture(real: dict[str, Arrays]) -> None:
    picture = real["demo.mp4"]["frames"][:1]
    still = {"frames": np.repeat(picture, 9, 0), "times": np.arange(9.0)}
    single = {"frames": picture, "times": np.zeros(1)}
    assert fingerprint(still) == fingerprint(single)
    assert fingerprint(still) & 0xFFFFFF == 0
