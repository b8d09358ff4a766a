"""Decoding against PyAV, and encoding without loss."""

import hashlib
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modalities import base
from modalities.base import BadSample
from modalities.video.codec import decode, encode, pick, sample
from modalities.video.transforms import frames as fewer

Written = Callable[[str], tuple[str, bytes]]
Reader = Callable[[bytes], tuple[Any, list[float]]]

REAL = {  # frames, of the header or counted once with PyAV
    "demo.mp4": 280,
    "pancake.mkv": 310,
    "rotated_180.mov": 3,
    "test.avi": 164,
    "blocks.mp4": 292,
    "dog.mp4": 289,
    "juggle.mp4": 247,
}


def files_of(path: Path) -> dict[str, bytes]:
    return {path.suffix[1:]: path.read_bytes()}


@pytest.mark.parametrize("name", list(REAL)[:4])
def test_real_videos_decode_as_pyav_decodes_them(name: str, shared_data: Path, video_reader: Reader) -> None:
    files = files_of(shared_data / "video" / name)
    arrays = decode(files)
    frames, times = video_reader(next(iter(files.values())))
    if name == "rotated_180.mov":
        frames = frames[:, ::-1, ::-1]
    assert len(frames) == REAL[name] == arrays["num_frames"]
    np.testing.assert_array_equal(arrays["frames"], frames)
    if name != "test.avi":  # PyAV dates some frames of packed MPEG-4 twice a tick late
        np.testing.assert_allclose(arrays["times"], times, rtol=0, atol=5.1e-7)


def test_an_avi_is_timed_by_its_chunks(shared_data: Path) -> None:
    times = decode(files_of(shared_data / "video" / "test.avi"), max_frames=164)["times"]
    np.testing.assert_allclose(times, np.arange(164) / 25, rtol=0, atol=5.1e-7)


@pytest.mark.parametrize("name", list(REAL)[:4])
def test_a_sample_shows_the_frames_of_the_whole(name: str, shared_data: Path) -> None:
    files = files_of(shared_data / "video" / name)
    whole, part = decode(files), sample(files, num=9)
    at = np.searchsorted(whole["times"], part["times"])
    np.testing.assert_array_equal(whole["times"][at], part["times"])
    np.testing.assert_array_equal(whole["frames"][at], part["frames"])


@pytest.mark.parametrize("name", list(REAL)[4:])
def test_a_sample_of_a_long_video_is_evenly_spaced_frames_of_it(
    name: str, shared_data: Path, video_reader: Reader
) -> None:
    import av

    path = shared_data / "video" / name
    arrays = sample(files_of(path), num=4)
    assert arrays["num_frames"] == REAL[name]
    picks = {(2 * i + 1) * REAL[name] // 8: i for i in range(4)}
    with av.open(path) as file:
        for number, frame in enumerate(file.decode(video=0)):
            if number in picks:
                np.testing.assert_array_equal(
                    arrays["frames"][picks[number]], frame.to_ndarray(format="rgb24")
                )
                assert arrays["times"][picks[number]] == pytest.approx(frame.time, abs=5.1e-7)


def test_every_codec_and_container_decodes_as_pyav_decodes_it(
    kind: str, written: Written, video_reader: Reader
) -> None:
    extension, content = written(kind)
    arrays = decode({extension: content})
    frames, times = video_reader(content)
    np.testing.assert_array_equal(arrays["frames"], frames)
    offset = times[0] if extension == "avi" else 0  # AVI has no start time; PyAV counts the decoder's delay
    np.testing.assert_allclose(arrays["times"], np.array(times) - offset, rtol=0, atol=5.1e-7)


def test_decord_reads_every_codec_without_falling_back(
    kind: str, written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("fell back to PyAV")

    extension, content = written(kind)
    monkeypatch.setattr("modalities.video.codec._pyav", refuse)
    assert len(decode({extension: content})["frames"]) == 13


TURNS = {  # display matrix a b c d of tkhd, and what it does to a frame
    "90": ((0, 1, -1, 0), lambda x: np.rot90(x, -1, (1, 2))),
    "180": ((-1, 0, 0, -1), lambda x: x[:, ::-1, ::-1]),
    "270": ((0, -1, 1, 0), lambda x: np.rot90(x, 1, (1, 2))),
    "mirrored": ((-1, 0, 0, 1), lambda x: x[:, :, ::-1]),
    "upside down": ((1, 0, 0, -1), lambda x: x[:, ::-1]),
    "transposed": ((0, 1, 1, 0), lambda x: x.transpose(0, 2, 1, 3)),
    "transposed the other way": ((0, -1, -1, 0), lambda x: x.transpose(0, 2, 1, 3)[:, ::-1, ::-1]),
}


@pytest.mark.parametrize("turn", TURNS)
def test_frames_are_turned_as_the_display_matrix_says(
    turn: str, written: Written, video_reader: Reader
) -> None:
    (a, b, c, d), expected = TURNS[turn]
    content = bytearray(written("h264-mp4")[1])
    at = content.index(b"tkhd") + 44
    content[at : at + 20] = struct.pack(">5i", a << 16, b << 16, 0, c << 16, d << 16)
    frames, _ = video_reader(bytes(content))
    np.testing.assert_array_equal(decode({"mp4": bytes(content)})["frames"], expected(frames))


def test_encoding_what_was_decoded_loses_nothing(kind: str, written: Written) -> None:
    extension, content = written(kind)
    once = decode({extension: content})
    files = encode(once)
    twice = decode(files)
    for field, array in once.items():
        np.testing.assert_array_equal(twice[field], array)
    assert encode(twice) == files


@pytest.mark.parametrize("shape", [(1, 1, 1, 3), (2, 7, 5, 3), (3, 33, 1, 3), (1, 64, 48, 3)])
def test_odd_sizes_and_single_frames_survive(shape: tuple[int, ...]) -> None:
    frames = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    times = 7.25 + np.arange(shape[0]) / 8
    again = decode(encode({"frames": frames, "times": times}))
    np.testing.assert_array_equal(again["frames"], frames)
    np.testing.assert_array_equal(again["times"], times)


@pytest.mark.parametrize("start", [0.0, 0.000001, 123.456789])
def test_times_survive_to_the_microsecond(start: float) -> None:
    times = np.round(start + np.array([0, 0.000001, 0.033367, 10.5]), 6)
    again = decode(encode({"frames": np.zeros((4, 16, 16, 3), np.uint8), "times": times}))
    np.testing.assert_array_equal(again["times"], times)


def test_encoded_bytes_carry_no_date_and_depend_only_on_the_arrays(moving: Any, tmp_path: Path) -> None:
    arrays = {"frames": moving, "times": np.arange(13) / 25}
    code = (
        "import sys, hashlib, numpy as np; from modalities.video.codec import encode;"
        "a = np.load(sys.argv[1]); t = np.arange(13) / 25;"
        "print(hashlib.sha256(encode({'frames': a, 'times': t})['mp4']).hexdigest())"
    )
    path = Path(__file__).parents[3]
    here = encode(arrays)["mp4"]
    np.save(tmp_path / "a.npy", moving)
    there = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.npy")],
        cwd=path, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert there.stdout.strip() == hashlib.sha256(here).hexdigest()
    assert b"Lavf" not in here
    assert b"Lavc" not in here


def test_a_sample_does_not_pass_for_the_whole(written: Written) -> None:
    extension, content = written("h264-mp4")
    part = decode({extension: content}, max_frames=4)
    assert part["frames"].shape[0] == 4
    assert part["num_frames"] == 13
    with pytest.raises(ValueError, match="frames are 4 of 13"):
        encode(part)
    assert decode(encode(fewer(part, num=4)))["num_frames"] == 4


def test_decoding_stays_within_the_budget(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    extension, content = written("h264-mp4")
    monkeypatch.setattr(base, "MAX_DECODED_BYTES", 5 * 96 * 128 * 3)
    assert decode({extension: content})["frames"].shape == (5, 96, 128, 3)
    monkeypatch.setattr(base, "MAX_DECODED_BYTES", 1000)
    with pytest.raises(BadSample, match="too-large: one frame is 36,864 bytes"):
        decode({extension: content})


def test_picks_are_the_middles_of_equal_shares() -> None:
    assert pick(100, 1, 4).tolist() == [12, 37, 62, 87]
    assert pick(3, 1, None).tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="max_frames must be at least 1, got 0"):
        pick(3, 1, 0)


def test_a_stream_that_does_not_decode_is_corrupt(shared_data: Path) -> None:
    with pytest.raises(BadSample) as error:
        decode(files_of(shared_data / "hostile" / "corrupted.mp4"))
    assert error.value.reason == "corrupt"


def test_frames_before_the_edit_list_are_not_shown(written: Written, video_reader: Reader) -> None:
    content = bytearray(written("h264-mp4")[1])
    at = content.index(b"elst") + 16  # media time of the first edit
    began = struct.unpack_from(">i", content, at)[0]
    struct.pack_into(">i", content, at, began + 5 * 512)  # five frames later, at 12800 ticks a second
    frames, times = video_reader(bytes(content))
    arrays = decode({"mp4": bytes(content)})
    assert len(frames) == 8 == arrays["num_frames"]
    np.testing.assert_array_equal(arrays["frames"], frames)
    np.testing.assert_allclose(arrays["times"], times, rtol=0, atol=5.1e-7)
    assert sample({"mp4": bytes(content)}, num=2)["num_frames"] == 8


@pytest.mark.parametrize("kind_", ["h264-mp4", "vp9-mp4", "mpeg4-mp4", "av1-mp4"])
def test_an_index_that_promises_too_much_crashes_nothing(
    kind_: str, written: Written, tmp_path: Path
) -> None:
    """A frame larger than the file ends the packets early, which decord alone does not survive."""
    content = bytearray(written(kind_)[1])
    at = content.index(b"stsz") + 16 + 4 * 9
    content[at : at + 4] = struct.pack(">I", 2**30)
    path = tmp_path / "promises.mp4"
    path.write_bytes(content)
    code = (
        "import sys; from pathlib import Path; from modalities.base import BadSample;"
        "from modalities.video.codec import decode\n"
        "try: print(len(decode({'mp4': Path(sys.argv[1]).read_bytes()})['frames']))\n"
        "except BadSample as bad: print(bad.reason)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        cwd=Path(__file__).parents[3], capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-500:]
    assert done.stdout.strip() in ("corrupt", "9", "10")


def test_hidden_frames_of_vp8_are_not_counted(
    video_writer: Callable[..., bytes], video_reader: Reader
) -> None:
    moving = np.tile(np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), np.uint8), (40, 1, 1, 1))
    content = video_writer(
        moving,
        codec="libvpx",
        container="webm",
        options={"auto-alt-ref": "1", "lag-in-frames": "16", "b": "200k"},
    )
    frames, times = video_reader(content)
    arrays = decode({"webm": content})
    assert len(frames) == 40 == arrays["num_frames"]
    np.testing.assert_array_equal(arrays["frames"], frames)
    np.testing.assert_allclose(arrays["times"], times, rtol=0, atol=5.1e-7)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": np.zeros((2, 4, 4, 4), np.uint8)}, r"frames must be \(t, h, w, 3\) uint8"),
        ({"frames": np.zeros((2, 4, 4, 3), np.float32)}, r"got \(2, 4, 4, 3\) float32"),
        ({"times": np.zeros(3)}, r"times must be \(2,\) finite"),
        ({"times": np.array([0, np.nan])}, "finite seconds"),
        ({"times": np.array([1.0, 1.0])}, "rise by a microsecond"),
        ({"times": np.array([-1.0, 1.0])}, "must not be negative, the first is -1.0"),
    ],
)
def test_arrays_that_are_no_video_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encode({"frames": np.zeros((2, 4, 4, 3), np.uint8), "times": np.arange(2.0), **change})


def test_a_sample_without_a_video_is_refused() -> None:
    with pytest.raises(BadSample, match=r"no-video: want one of .* got \['json'\]"):
        decode({"json": b"{}"})
