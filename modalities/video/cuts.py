"""Videos into clips: by time, or where the scene changes."""

import json
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from modalities import base
from modalities.base import BadSample, Cut, Files, Meta, Piece, Raw
from modalities.video.frames import TICKS, Timeline, read_timeline, stream_frames, to_rgb
from modalities.video.schema import CORRUPT, TOO_LARGE
from modalities.video.writer import LOSSLESS_RGB, NATIVE, lossless_yuv, lossy, write, write_rgb

if TYPE_CHECKING:
    import av

LOSSLESS_BYTES, LOSSY_BYTES = 0.45, 0.03  # bytes a stored pixel, about, measured on 720p clips


def plan_clips(
    raw: Raw,
    meta: Meta,
    *,
    seconds: float,
    stride: float | None = None,
    drop_last: bool = False,
    min_seconds: float = 0.0,
    crf: int | None = None,
) -> Sequence[Piece]:
    """Clips of `seconds`, one every `stride` (default: `seconds`), from the packets' times alone.

    The last may be shorter; it goes if `drop_last`, or if it is under `min_seconds`.
    `crf` asks for lossy H.264; None keeps every pixel.
    """
    step = seconds if stride is None else stride
    if not (seconds > 0 and step > 0):
        raise ValueError(f"seconds and stride must be above 0, got {seconds}, {step}")
    timeline = read_timeline(raw, meta)
    first, end = float(timeline.times[0]), timeline.end_s
    spans, number = [], 0
    while (start := first + number * step) < end - 0.5 / TICKS:
        spans.append((start, min(start + seconds, end)))
        number += 1
        if spans[-1][1] >= end - 0.5 / TICKS:  # later ones would only repeat its tail
            break
    if spans and spans[-1][1] - spans[-1][0] < (seconds if drop_last else min_seconds) - 1.5 / TICKS:
        spans.pop()
    return _pieces(timeline, spans, crf)


def plan_scenes(
    raw: Raw,
    meta: Meta,
    *,
    threshold: float = 0.3,
    min_seconds: float = 1.0,
    max_seconds: float | None = None,
    crf: int | None = None,
) -> Sequence[Piece]:
    """A piece a scene: a new one begins where the colour histogram changes by `threshold` (0..1) or more.

    Every frame is decoded, shrunk to 64 x 36 and forgotten. No scene is shorter than `min_seconds`, the last
    apart; one longer than `max_seconds` is cut into equal parts.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold must be in (0, 1], got {threshold}")
    timeline = read_timeline(raw, meta)
    starts, last = [float(timeline.times[0])], None
    for number, (seconds, frame) in enumerate(stream_frames(raw, meta)):
        histogram = _histogram(frame)
        at = seconds if timeline.seekable and seconds is not None else _time_of(timeline, number, raw)
        change = 0.0 if last is None else float(np.abs(histogram - last).sum()) / 2
        if change >= threshold and at - starts[-1] >= min_seconds:
            starts.append(at)
        last = histogram
    spans = []
    for start, end in zip(starts, [*starts[1:], timeline.end_s], strict=True):
        parts = 1 if max_seconds is None else max(int(np.ceil((end - start) / max_seconds - 1e-9)), 1)
        edges = np.linspace(start, end, parts + 1)
        spans += list(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True))
    return _pieces(timeline, spans, crf)


def _time_of(timeline: Timeline, number: int, raw: Raw) -> float:
    if number >= len(timeline.times):
        raise BadSample(CORRUPT, f"{raw.name} decodes to more frames than its {len(timeline.times)} packets")
    return float(timeline.times[number])


def _histogram(frame: "av.VideoFrame") -> NDArray[np.float64]:
    """Shares of 64 colours, four steps a channel."""
    small = np.asarray(frame.to_ndarray(format="rgb24", width=64, height=36, threads=1), np.uint8) >> 6
    index = small[..., 0] * 16 + small[..., 1] * 4 + small[..., 2]
    return np.asarray(np.bincount(index.ravel(), minlength=64) / index.size)


def _pieces(timeline: Timeline, spans: Sequence[tuple[float, float]], crf: int | None) -> list[Piece]:
    pieces = []
    if crf is not None:
        lossy("h264", crf)  # complains early
    area = timeline.height * timeline.width
    for start, end in spans:
        edges = np.searchsorted(timeline.times, np.array([start, end]) - 0.5 / TICKS)
        first, num = int(edges[0]), int(edges[1] - edges[0])
        if num == 0:  # a gap longer than a clip
            continue
        if num * area * 3 > base.MAX_DECODED_BYTES:
            raise BadSample(
                TOO_LARGE,
                f"{end - start:.1f} s are {num} frames of {timeline.width}x{timeline.height}, more than"
                f" {base.MAX_DECODED_BYTES:,} bytes decoded; ask for shorter clips",
            )
        begin = float(timeline.times[first])
        spec = {
            "start_s": begin,
            "end_s": round(end * TICKS) / TICKS,
            "start_frame": first,
            "num_frames": num,
            "seek_s": timeline.key_before(first),
            "times": None if timeline.seekable else timeline.times[first : first + num].tolist(),
            "crf": crf,
        }
        size = int(num * area * (LOSSLESS_BYTES if crf is None else LOSSY_BYTES)) + 4096
        pieces.append(Piece(suffix=f"t{max(round(begin * 1000), 0):09d}", spec=spec, num_bytes=size))
    return pieces


def extract(raw: Raw, meta: Meta, spec: Meta, **_: object) -> Files:
    """`mp4` with exactly the frames of the piece, times from 0 on, and `clip.json` that says where it lies.

    Lossless unless the plan said `crf`: frames of an upright 8-bit video keep their own YUV samples. The spec
    holds all that is needed, options of the plan are ignored. Sound is left out. BadSample "corrupt" when
    fewer frames decode than the plan counted.
    """
    try:
        mp4 = _clip(raw, meta, spec, spec["seek_s"])
    except BadSample:
        if spec["seek_s"] is None:
            raise
        mp4 = _clip(raw, meta, spec, None)  # some files' indices lead past the keyframe
    where = {name: spec[name] for name in ("start_s", "end_s", "start_frame", "num_frames")}
    return {"mp4": mp4, "clip.json": json.dumps(where, sort_keys=True, separators=(",", ":")).encode()}


def _clip(raw: Raw, meta: Meta, spec: Meta, seek_s: float | None) -> bytes:
    shots = _shots(raw, meta, spec, seek_s)
    first = next(shots)
    native = first[1].format.name
    every = chain([first], shots)
    if meta["rotation"] == 0 and not meta["mirrored"] and native in NATIVE and spec["crf"] is None:
        return write(every, lossless_yuv(native))
    codec = LOSSLESS_RGB if spec["crf"] is None else lossy("h264", spec["crf"])
    return write_rgb(((seconds, to_rgb(frame, meta)) for seconds, frame in every), codec)


def _shots(raw: Raw, meta: Meta, spec: Meta, seek_s: float | None) -> Iterator[tuple[float, "av.VideoFrame"]]:
    """(seconds from the start of the piece, frame) of exactly the piece."""
    start, times, done = spec["start_s"], spec["times"], 0
    for number, (seconds, frame) in enumerate(stream_frames(raw, meta, seek_s=seek_s)):
        if times is not None:  # frames are known by their number alone
            if number < spec["start_frame"]:
                continue
            seconds = times[done]
        elif seconds is None or seconds < start - 0.5 / TICKS:
            continue
        elif seconds >= spec["end_s"] - 0.5 / TICKS:
            break
        done += 1
        yield seconds - start, frame
        if done == spec["num_frames"]:
            return
    raise BadSample(
        CORRUPT,
        f"{raw.name}: {done} of {spec['num_frames']} frames decode from {start} s to {spec['end_s']} s",
    )


CLIPS = Cut(plan=plan_clips, extract=extract)
SCENES = Cut(plan=plan_scenes, extract=extract)
