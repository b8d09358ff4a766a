"""What is said of a video without making RGB of its frames, beside what is said of the frames."""

import resource
import struct
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modalities.base import BadSample, Raw
from modalities.video import MODALITY
from modalities.video.codec import sample

MODULE = import_module("modalities.video.measure")  # the package holds its function under that name
Written = Callable[[str], tuple[str, bytes]]


def measured(files: Mapping[str, bytes]) -> Any:
    [(ext, data)] = files.items()
    return MODALITY.measured(files, MODALITY.probe(Raw(name=f"a.{ext}", content=data)))


def judged(files: Mapping[str, bytes]) -> Any:
    arrays = sample(files)
    return MODALITY.quality(arrays), MODALITY.fingerprint(arrays)


def alike(one: Any, other: Any) -> None:
    (numbers, print_), (want, want_print) = one, other
    assert numbers.keys() == want.keys()
    for key in ("exposure", "contrast", "motion"):
        assert numbers[key] == pytest.approx(want[key], abs=0.015), key
    for key in ("fps", "duration_s"):
        assert numbers[key] == pytest.approx(want[key]), key
    assert numbers["blur"] == pytest.approx(want["blur"], rel=0.3)
    assert (print_ ^ want_print).bit_count() <= 4


def test_a_video_is_judged_as_its_frames_are(kind: str, written: Written) -> None:
    extension, data = written(kind)
    alike(measured({extension: data}), judged({extension: data}))


def test_every_frame_is_decoded_and_no_rgb_is_made(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    extension, data = written("h264-mp4")
    monkeypatch.setattr(MODULE, "sample", None)
    numbers, _ = measured({extension: data})
    assert numbers["duration_s"] == pytest.approx(12 / 25)


@pytest.mark.parametrize("limit", ["MAX_PIXELS", "MAX_BYTES"])
def test_of_a_long_video_a_sample_is_looked_at(
    limit: str, written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    extension, data = written("h264-mp4")
    monkeypatch.setattr(MODULE, limit, 1000)
    assert measured({extension: data}) == judged({extension: data})


@pytest.mark.parametrize("turn", [(0, 1, -1, 0), (-1, 0, 0, 1), (0, 1, 1, 0)])
def test_a_turned_video_is_judged_as_it_is_shown(turn: tuple[int, ...], written: Written) -> None:
    upright = written("h264-mp4")[1]
    turned = bytearray(upright)
    at = turned.index(b"tkhd") + 44  # display matrix a b u c d
    a, b, c, d = turn
    turned[at : at + 20] = struct.pack(">5i", a << 16, b << 16, 0, c << 16, d << 16)
    files = {"mp4": bytes(turned)}
    alike(measured(files), judged(files))
    assert (measured(files)[1] ^ measured({"mp4": upright})[1]).bit_count() > 8


@pytest.mark.parametrize("name", ["h264-mp4", "vp9-webm", "mjpeg-avi"])
def test_every_damage_that_decoding_notices_is_noticed(
    name: str, written: Written, refuses: Callable[[Any], bool]
) -> None:
    extension, data = written(name)
    rng = np.random.default_rng(0)
    for number in range(24):
        broken = bytearray(data)
        at = int(rng.integers(40, len(data) - 40))
        broken[at : at + 40] = rng.integers(0, 256, 40, np.uint8).tobytes()
        files = {extension: bytes(broken)}
        if refuses(lambda files=files: judged(files)):
            assert refuses(lambda files=files: measured(files)), f"{name} {number} at {at}"


def test_a_stream_that_does_not_decode_is_refused(shared_data: Path) -> None:
    files = {"mp4": (shared_data / "hostile" / "corrupted.mp4").read_bytes()}
    with pytest.raises(BadSample, match="corrupt"):
        measured(files)


def test_a_look_at_a_video_waits_for_no_other_thread() -> None:
    files = {"mp4": MODALITY.synth(0)["mp4"]}
    frames = len(MODALITY.decode(files)["frames"])
    measured(files)
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw  # how often this thread went to sleep
    for _ in range(4):
        measured(files)
    assert resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw - before < frames
