"""Writing one video track: the bytes are a function of the frames, the times and FFmpeg's version alone."""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from modalities.libraries import load
from modalities.video.frames import TICKS

if TYPE_CHECKING:
    import av

# One thread, and no choice of algorithm by CPU type: with more, rate control and block decisions may differ.
X264 = "cpu-independent=1:sliced-threads=0:log-level=none"


@dataclass(frozen=True)
class Codec:
    """An encoder of FFmpeg with its options, and the container it goes into."""

    encoder: str
    pixels: str
    options: tuple[tuple[str, str], ...]
    extension: str = "mp4"


# B-frames are off, so that decoding order is display order and no edit list has to undo a delay.
_LOSSLESS = (("preset", "veryfast"), ("qp", "0"), ("bf", "0"), ("g", "32"), ("x264-params", X264))
LOSSLESS_RGB = Codec("libx264rgb", "rgb24", _LOSSLESS)


def lossless_yuv(pixels: str) -> Codec:
    """For frames that come out of a decoder as `pixels`: half the bytes of RGB, and as exact."""
    return Codec("libx264", pixels, _LOSSLESS)


NATIVE = ("yuv420p", "yuvj420p", "yuv422p", "yuv444p")  # formats that `lossless_yuv` takes


def lossy(name: str, crf: int) -> Codec:
    """H.264 or AV1 in MP4, VP9 in WebM; `crf` 0 (best) to 51, for VP9 and AV1 to 63.

    HEVC is read only: the libx265 of PyAV 18.1 corrupts the heap on pictures under 64 pixels.
    """
    options = {
        "h264": ("libx264", (("preset", "medium"), ("x264-params", X264)), "mp4", 51),
        "vp9": ("libvpx-vp9", (("b", "0"), ("cpu-used", "4"), ("deadline", "good")), "webm", 63),
        "av1": ("libsvtav1", (("preset", "10"), ("svtav1-params", "lp=1")), "mp4", 63),
    }
    if name not in options:
        raise LookupError(f"codec must be one of {tuple(options)}, got {name!r}")
    encoder, extra, extension, worst = options[name]
    if not 0 <= crf <= worst:
        raise ValueError(f"crf of {name} must be 0 to {worst}, got {crf}")
    return Codec(encoder, "yuv420p", (("crf", str(crf)), *extra), extension)


def write_rgb(shots: Iterable[tuple[float, NDArray[np.uint8]]], codec: Codec) -> bytes:
    """(seconds, (h, w, 3)) -> a file; with halved colour sides must be even, so an odd last row doubles."""
    load("av")
    import av

    halved = codec.pixels == "yuv420p"

    def video_frame(rgb: NDArray[np.uint8]) -> "av.VideoFrame":
        h, w = rgb.shape[:2]
        if halved and (h % 2 or w % 2):
            rgb = np.pad(rgb, ((0, h % 2), (0, w % 2), (0, 0)), "edge")
        return av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")

    return write(((seconds, video_frame(rgb)) for seconds, rgb in shots), codec)


def write(shots: Iterable[tuple[float, "av.VideoFrame"]], codec: Codec) -> bytes:
    """(seconds, frame) one by one, so that only the file is held; size and colour are the first frame's."""
    load("av")
    import av

    out, tick = BytesIO(), Fraction(1, TICKS)
    muxer = {"fflags": "+bitexact"}
    if codec.extension == "mp4":
        muxer |= {"video_track_timescale": str(TICKS), "movie_timescale": str(TICKS)}
    with av.open(out, "w", format=codec.extension, options=muxer) as container:
        stream: Any = container.add_stream(codec.encoder, options=dict(codec.options))
        context = stream.codec_context
        context.thread_count, context.time_base = 1, tick
        last, step = None, TICKS // 25  # what a single frame lasts
        for seconds, frame in shots:
            if not context.is_open:
                stream.height, stream.width, stream.pix_fmt = frame.height, frame.width, codec.pixels
                context.colorspace, context.color_range = frame.colorspace, frame.color_range
            now = round(seconds * TICKS)
            last, step = now, step if last is None else now - last
            frame.pts, frame.time_base, frame.pict_type = now, tick, 0
            container.mux(stream.encode(frame))
        for packet in stream.encode(None):
            packet.duration = step  # the last frame is shown as long as the one before
            container.mux(packet)
    return out.getvalue()
