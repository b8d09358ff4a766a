"""Clips hold exactly the frames they say they hold."""

import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from modalities import base
from modalities.base import BadSample, Meta, Piece, Raw
from modalities.video import MODALITY
from modalities.video.codec import decode, encode
from modalities.video.cuts import CLIPS, SCENES
from modalities.video.probe import probe

Written = Callable[[str], tuple[str, bytes]]


def opened(content: bytes | Path, name: str) -> tuple[Raw, Meta]:
    raw = Raw(name=name, content=content)
    return raw, probe(raw)


def spans(pieces: list[Piece] | Any) -> list[tuple[float, float]]:
    return [(piece.spec["start_s"], piece.spec["end_s"]) for piece in pieces]


@pytest.mark.parametrize("name", ["demo.mp4", "pancake.mkv", "test.avi", "rotated_180.mov"])
def test_a_clip_is_the_same_frames_of_the_whole(name: str, shared_data: Path) -> None:
    path = shared_data / "video" / name
    raw, meta = opened(path, name)
    whole = decode({path.suffix[1:]: path.read_bytes()})
    pieces = CLIPS.plan(raw, meta, seconds=1.5)
    assert sum(piece.spec["num_frames"] for piece in pieces) == len(whole["frames"])
    piece = pieces[min(3, len(pieces) - 1)]
    files = CLIPS.extract(raw, meta, piece.spec, seconds=1.5)
    clip, where = decode(files), json.loads(files["clip.json"])
    part = slice(where["start_frame"], where["start_frame"] + where["num_frames"])
    np.testing.assert_array_equal(clip["frames"], whole["frames"][part])
    np.testing.assert_allclose(clip["times"] + where["start_s"], whole["times"][part], rtol=0, atol=1e-9)
    assert clip["times"][0] == 0
    assert CLIPS.extract(raw, meta, piece.spec) == files
    assert 0.2 < piece.num_bytes / len(files["mp4"]) < 5


def test_every_codec_is_cut_without_loss(kind: str, written: Written) -> None:
    extension, content = written(kind)
    raw, meta = opened(content, f"a.{extension}")
    whole = decode({extension: content})
    clips = [decode(CLIPS.extract(raw, meta, p.spec)) for p in CLIPS.plan(raw, meta, seconds=0.2)]
    assert len(clips) > 1
    np.testing.assert_array_equal(np.concatenate([clip["frames"] for clip in clips]), whole["frames"])


def test_a_clip_keeps_the_colour_space(video_writer: Callable[..., bytes], moving: Any) -> None:
    content = video_writer(moving, options={"colorspace": "bt709", "color_range": "pc"})
    raw, meta = opened(content, "a.mp4")
    clip = CLIPS.extract(raw, meta, CLIPS.plan(raw, meta, seconds=9)[0].spec)["mp4"]
    for file in (av.open(BytesIO(content)), av.open(BytesIO(clip))):
        with file:
            context = file.streams.video[0].codec_context
            assert (int(context.colorspace), int(context.color_range)) == (1, 2)
    np.testing.assert_array_equal(decode({"mp4": clip})["frames"], decode({"mp4": content})["frames"])


@pytest.fixture
def steady() -> tuple[Raw, Meta]:
    """Ten seconds and a half at 4 frames a second, one keyframe in eight."""
    frames = np.random.default_rng(0).integers(0, 256, (42, 16, 16, 3), np.uint8)
    return opened(encode({"frames": frames, "times": np.arange(42) / 4})["mp4"], "a.mp4")


def test_clips_lie_where_they_were_asked_for(steady: tuple[Raw, Meta]) -> None:
    assert spans(CLIPS.plan(*steady, seconds=4)) == [(0, 4), (4, 8), (8, 10.5)]
    assert spans(CLIPS.plan(*steady, seconds=4, drop_last=True)) == [(0, 4), (4, 8)]
    assert spans(CLIPS.plan(*steady, seconds=4, min_seconds=2.5)) == [(0, 4), (4, 8), (8, 10.5)]
    assert spans(CLIPS.plan(*steady, seconds=4, min_seconds=2.6)) == [(0, 4), (4, 8)]
    assert spans(CLIPS.plan(*steady, seconds=4, stride=2)) == [(0, 4), (2, 6), (4, 8), (6, 10), (8, 10.5)]
    assert spans(CLIPS.plan(*steady, seconds=1, stride=5)) == [(0, 1), (5, 6), (10, 10.5)]
    assert spans(CLIPS.plan(*steady, seconds=99)) == [(0, 10.5)]
    assert [piece.suffix for piece in CLIPS.plan(*steady, seconds=4)] == [
        "t000000000",
        "t000004000",
        "t000008000",
    ]


def test_plans_are_json_and_unique(steady: tuple[Raw, Meta]) -> None:
    pieces = CLIPS.plan(*steady, seconds=0.6, stride=0.4)
    assert len({piece.suffix for piece in pieces}) == len(pieces)
    for piece in pieces:
        assert json.loads(json.dumps(piece.spec)) == piece.spec


def test_a_lossy_clip_is_small_and_near(shared_data: Path) -> None:
    raw, meta = opened(shared_data / "video" / "demo.mp4", "demo.mp4")
    exact, lossy = (CLIPS.plan(raw, meta, seconds=1, crf=crf)[2] for crf in (None, 23))
    exact_files, files = (CLIPS.extract(raw, meta, piece.spec) for piece in (exact, lossy))
    assert len(files["mp4"]) < len(exact_files["mp4"]) / 5
    error = np.abs(decode(files)["frames"].astype(int) - decode(exact_files)["frames"])
    assert 0 < error.mean() < 8


def test_scenes_begin_where_the_picture_changes(shared_data: Path) -> None:
    parts, frames = ["demo.mp4", "test.avi", "pancake.mkv"], []
    for name in parts:
        path = shared_data / "video" / name
        clip = decode({path.suffix[1:]: path.read_bytes()}, max_frames=60)
        frames.append(MODALITY.transforms["resize"](clip, height=90, width=120)["frames"][:30])
    content = encode({"frames": np.concatenate(frames), "times": np.arange(90) / 25})["mp4"]
    raw, meta = opened(content, "a.mp4")
    pieces = SCENES.plan(raw, meta)
    assert spans(pieces) == [(0, 1.2), (1.2, 2.4), (2.4, 3.6)]
    assert spans(SCENES.plan(raw, meta, min_seconds=2)) == [(0, 2.4), (2.4, 3.6)]
    assert len(SCENES.plan(raw, meta, max_seconds=0.6)) == 6
    np.testing.assert_array_equal(decode(SCENES.extract(raw, meta, pieces[1].spec))["frames"], frames[1])


def test_one_shot_is_one_scene(shared_data: Path) -> None:
    raw, meta = opened(shared_data / "video" / "pancake.mkv", "pancake.mkv")
    assert len(SCENES.plan(raw, meta)) == 1


def test_a_clip_too_large_to_decode_is_refused(
    steady: tuple[Raw, Meta], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "MAX_DECODED_BYTES", 20 * 16 * 16 * 3)
    assert len(CLIPS.plan(*steady, seconds=5)) == 3
    with pytest.raises(BadSample, match=r"too-large: .* ask for shorter clips"):
        CLIPS.plan(*steady, seconds=6)


def test_a_clip_of_a_damaged_stretch_is_corrupt(shared_data: Path) -> None:
    raw, meta = opened(shared_data / "hostile" / "corrupted.mp4", "corrupted.mp4")
    pieces = CLIPS.plan(raw, meta, seconds=1)
    outcomes = []
    for piece in pieces:
        try:
            outcomes.append(len(decode(CLIPS.extract(raw, meta, piece.spec))["frames"]))
        except BadSample as bad:
            outcomes.append(bad.reason)
    assert "corrupt" in outcomes
    assert outcomes[0] == 10  # the first second is whole


@pytest.mark.parametrize(
    ("plan", "options", "message"),
    [
        (CLIPS.plan, {"seconds": 0}, "seconds and stride must be above 0, got 0, 0"),
        (CLIPS.plan, {"seconds": 1, "stride": -1}, "got 1, -1"),
        (CLIPS.plan, {"seconds": 1, "crf": 99}, "crf of h264 must be 0 to 51, got 99"),
        (SCENES.plan, {"threshold": 0}, r"threshold must be in \(0, 1\], got 0"),
    ],
)
def test_options_out_of_range_are_refused(
    steady: tuple[Raw, Meta], plan: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        plan(*steady, **options)
