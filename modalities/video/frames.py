"""Frames of a probed video one after another, and when each is shown. Nothing here holds the whole video."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from modalities.base import BadSample, Meta, Raw
from modalities.libraries import load
from modalities.video.schema import (
    CODECS,
    CORRUPT,
    MAX_FRAMES,
    MAX_SIDE,
    NO_VIDEO,
    TOO_LARGE,
    UNSUPPORTED_CODEC,
)

if TYPE_CHECKING:
    import av
    from av.container import InputContainer
    from av.video.stream import VideoStream

TICKS = 1_000_000  # a second, FFmpeg's AV_TIME_BASE: times are whole ticks, so encoding keeps them exactly
# The demuxer is named, so that no other one (playlists, concatenations) may claim the file.
DEMUXERS = {"mp4": "mov", "mov": "mov", "mkv": "matroska", "webm": "matroska", "avi": "avi"}
DECODERS = {"libdav1d": "av1", "libaom-av1": "av1", "libvpx": "vp8", "libvpx-vp9": "vp9"}


@dataclass(frozen=True)
class Timeline:
    """What the container's packets say, in display order."""

    times: NDArray[np.float64]  # (t,) seconds
    keyframes: NDArray[np.int64]  # indices into `times`
    height: int  # stored, as the codec says
    width: int
    frame_s: float  # how long the last frame is shown: the average
    seekable: bool  # every packet has a presentation time of its own

    @property
    def end_s(self) -> float:
        return round((float(self.times[-1]) + self.frame_s) * TICKS) / TICKS

    def key_before(self, index: int) -> float | None:
        """Time of the keyframe decoding must start from to reach frame `index`; None: from the top."""
        before = self.keyframes[self.keyframes <= index]
        return float(self.times[before[-1]]) if self.seekable and len(before) and before[-1] > 0 else None


@contextmanager
def opened(raw: Raw, meta: Meta) -> Iterator[tuple["InputContainer", "VideoStream"]]:
    """PyAV's container and its first video stream, one thread; FFmpeg's errors become "corrupt"."""
    load("av")
    import av

    try:
        with (
            raw.open() as file,
            av.open(
                file, mode="r", format=DEMUXERS[meta["container"]], metadata_errors="replace"
            ) as container,
        ):
            if not container.streams.video:
                raise BadSample(NO_VIDEO, f"{raw.name}: FFmpeg finds no video track")
            stream = container.streams.video[0]
            _check(stream, raw.name)
            stream.codec_context.thread_count = 1
            yield container, stream
    except (av.FFmpegError, EOFError, OverflowError) as e:
        raise BadSample(CORRUPT, f"{raw.name}: FFmpeg says {e}") from e


def _check(stream: "VideoStream", name: str) -> None:
    """The stream's own header may say something else than the container's."""
    context = stream.codec_context
    codec = DECODERS.get(context.name, context.name)
    if codec not in CODECS:
        raise BadSample(UNSUPPORTED_CODEC, f"{name} holds {codec!r}; transcode it to one of {CODECS}")
    if max(context.width, context.height) > MAX_SIDE:
        raise BadSample(
            TOO_LARGE, f"{name} is {context.width}x{context.height}, over {MAX_SIDE} pixels a side"
        )
    if not (context.width and context.height):
        raise BadSample(CORRUPT, f"{name}: FFmpeg finds no frame size")


def read_timeline(raw: Raw, meta: Meta) -> Timeline:
    """Times and keyframes from the packets alone; nothing is decoded.

    A video whose packets lack times, or share them, is timed by its average frame rate; one that begins
    before 0 is moved to begin there.
    """
    with opened(raw, meta) as (container, stream):
        return timeline_of(container.demux(stream), stream, raw, meta)


def timeline_of(
    packets: "Iterable[av.Packet[VideoStream]]", stream: "VideoStream", raw: Raw, meta: Meta
) -> Timeline:
    """The same from packets that have been read."""
    ticks: list[int] = []
    keys: list[bool] = []
    dated, avi = True, meta["container"] == "avi"
    tick = stream.time_base or Fraction(1, TICKS)
    for packet in packets:
        if not packet.size or packet.is_discard:
            continue
        at = packet.dts if avi else packet.pts  # AVI numbers its chunks and knows no other time
        dated &= at is not None
        ticks.append(at if at is not None else len(ticks))
        keys.append(packet.is_keyframe)
        if len(ticks) > MAX_FRAMES:
            raise BadSample(TOO_LARGE, f"{raw.name} has more than {MAX_FRAMES:,} frames; cut it into files")
    if not ticks:
        raise BadSample(NO_VIDEO, f"{raw.name} has a video track without frames")
    context = stream.codec_context
    height, width, rate = context.height, context.width, float(stream.average_rate or 25)
    order = np.argsort(ticks, kind="stable")
    times = np.array([to_seconds(ticks[i], tick) for i in order])
    distinct = bool((np.diff(times) > 0).all())
    if not (dated and distinct):
        times = np.round(np.arange(len(ticks)) / rate * TICKS) / TICKS
    negative = times[0] < 0
    if negative:
        times = np.round((times - times[0]) * TICKS) / TICKS
    frame_s = float(times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else 1 / rate
    keyframes = np.flatnonzero(np.array(keys)[order])
    return Timeline(times, keyframes, height, width, frame_s, dated and distinct and not (avi or negative))


def to_seconds(ticks: int, tick: Fraction) -> float:
    """Seconds in whole microseconds: the same float for the same instant, whatever the time base."""
    whole, rest = divmod(ticks * tick.numerator * TICKS, tick.denominator)
    over = 2 * rest - tick.denominator  # as round() of the fraction, which takes ten times as long
    return (whole + (over > 0 or (over == 0 and whole % 2 == 1))) / TICKS


def stream_frames(
    raw: Raw, meta: Meta, *, seek_s: float | None = None
) -> Iterator[tuple[float | None, "av.VideoFrame"]]:
    """(seconds, frame) in display order, not turned, from the keyframe at `seek_s` or from the top."""
    with opened(raw, meta) as (container, stream):
        tick = stream.time_base or Fraction(1, TICKS)
        if seek_s is not None:
            container.seek(round(Fraction(seek_s) / tick), stream=stream, backward=True)
        for frame in container.decode(stream):
            yield None if frame.pts is None else to_seconds(frame.pts, tick), frame


def to_rgb(frame: "av.VideoFrame", meta: Meta) -> NDArray[np.uint8]:
    """(h, w, 3) as displayed: mirrored and turned as the file says."""
    rgb: NDArray[Any] = frame.to_ndarray(format="rgb24", threads=1)  # more would wait for each other
    if meta["mirrored"]:
        rgb = rgb[:, ::-1]
    return np.ascontiguousarray(np.rot90(rgb, -meta["rotation"] // 90))
