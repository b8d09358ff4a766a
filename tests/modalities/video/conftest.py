"""Videos written by PyAV with FFmpeg's own encoders, independent of the package's writer."""

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from io import BytesIO
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

Frames = NDArray[np.uint8]
TICK = Fraction(1, 90_000)
UNEVEN = np.cumsum([0, *[0.02, 0.1, 0.033, 0.5] * 3])  # a phone that drops frames


def textured(num: int = 13, height: int = 96, width: int = 128) -> Frames:
    """A smooth colourful ground that moves by one pixel a frame."""
    noise = gaussian_filter(np.random.default_rng(0).standard_normal((height + 40, width + 40, 3)), (3, 3, 0))
    ground = (255 * (noise - noise.min()) / np.ptp(noise)).astype(np.uint8)
    return np.stack([ground[t : t + height, t : t + width] for t in range(num)])


def write(
    frames: Frames,
    *,
    codec: str = "libx264",
    container: str = "mp4",
    pixels: str = "yuv420p",
    times: Sequence[float] | None = None,
    options: Mapping[str, str] | None = None,
    muxer: Mapping[str, str] | None = None,
    audio: bool = False,
) -> bytes:
    """25 frames a second, or each frame at its own time."""
    out, tick = BytesIO(), Fraction(1, 25) if times is None else TICK
    with av.open(out, "w", format=container, options=dict(muxer or {})) as file:
        stream: Any = file.add_stream(codec, rate=25, options=dict(options or {}))
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pixels
        stream.codec_context.time_base = stream.time_base = tick
        sound = file.add_stream("aac", rate=8000) if audio else None
        for number, rgb in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            frame.pts, frame.time_base = number if times is None else round(times[number] / TICK), tick
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
        if sound is not None:
            silence = av.AudioFrame.from_ndarray(
                np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
            )
            silence.rate, silence.pts = 8000, 0
            file.mux(sound.encode(silence))
            file.mux(sound.encode(None))
    return out.getvalue()


def read(content: bytes) -> tuple[Frames, list[float]]:
    """Frames as stored and their times, by PyAV one after another."""
    with av.open(BytesIO(content)) as file:
        file.streams.video[0].codec_context.thread_count = 1
        shots = [(frame.to_ndarray(format="rgb24"), float(frame.time or 0)) for frame in file.decode(video=0)]
    return np.stack([rgb for rgb, _ in shots]), [seconds for _, seconds in shots]


X265 = {"x265-params": "log-level=none"}
WRITTEN: dict[str, tuple[str, dict[str, Any]]] = {  # extension and how to write
    "h264-mp4": ("mp4", {}),
    "h264-mov": ("mov", {"container": "mov"}),
    "h264-mkv": ("mkv", {"container": "matroska"}),
    "h264-avi": ("avi", {"container": "avi", "options": {"bf": "0"}}),
    "h264-fragmented": ("mp4", {"muxer": {"movflags": "frag_keyframe+empty_moov"}}),
    "h264-uneven-mp4": ("mp4", {"times": UNEVEN}),
    "h264-uneven-mkv": ("mkv", {"times": UNEVEN, "container": "matroska"}),
    "h264-444": ("mp4", {"pixels": "yuv444p"}),
    "hevc-mp4": ("mp4", {"codec": "libx265", "options": X265}),
    "hevc-mkv": ("mkv", {"codec": "libx265", "container": "matroska", "options": X265}),
    "vp8-webm": ("webm", {"codec": "libvpx", "container": "webm"}),
    "vp9-webm": ("webm", {"codec": "libvpx-vp9", "container": "webm"}),
    "vp9-mp4": ("mp4", {"codec": "libvpx-vp9"}),
    "vp9-uneven-webm": ("webm", {"codec": "libvpx-vp9", "container": "webm", "times": UNEVEN}),
    "av1-mp4": ("mp4", {"codec": "libsvtav1"}),
    "av1-mkv": ("mkv", {"codec": "libsvtav1", "container": "matroska"}),
    "av1-webm": ("webm", {"codec": "libsvtav1", "container": "webm"}),
    "mpeg4-mp4": ("mp4", {"codec": "mpeg4"}),
    "mpeg4-avi": ("avi", {"codec": "mpeg4", "container": "avi"}),
    "mpeg4-mkv": ("mkv", {"codec": "mpeg4", "container": "matroska"}),
    "mjpeg-avi": ("avi", {"codec": "mjpeg", "container": "avi", "pixels": "yuvj420p"}),
    "mjpeg-mov": ("mov", {"codec": "mjpeg", "container": "mov", "pixels": "yuvj420p"}),
    "mjpeg-mkv": ("mkv", {"codec": "mjpeg", "container": "matroska", "pixels": "yuvj420p"}),
}


@pytest.fixture(scope="session")
def written() -> Callable[[str], tuple[str, bytes]]:
    """(extension, bytes) of a key of WRITTEN, written once."""
    made: dict[str, tuple[str, bytes]] = {}

    def get(name: str) -> tuple[str, bytes]:
        if name not in made:
            extension, how = WRITTEN[name]
            made[name] = extension, write(textured(), **how)
        return made[name]

    return get


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "kind" in metafunc.fixturenames:
        metafunc.parametrize("kind", WRITTEN)


@pytest.fixture(scope="session")
def video_writer() -> Callable[..., bytes]:
    return write


@pytest.fixture(scope="session")
def video_reader() -> Callable[[bytes], tuple[Frames, list[float]]]:
    return read


@pytest.fixture(scope="session")
def moving() -> Frames:
    return textured()
