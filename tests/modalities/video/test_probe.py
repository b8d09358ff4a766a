"""The header is read without FFmpeg, and what is no honest video is refused by name."""

import struct
import time
from collections.abc import Callable
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from modalities.base import BadSample, Meta, Raw
from modalities.video import schema
from modalities.video.probe import pack, probe

Written = Callable[[str], tuple[str, bytes]]


def probed(content: bytes, name: str = "clip.mp4") -> Meta:
    return probe(Raw(name=name, content=content))


def reason(content: bytes, name: str = "clip.mp4") -> str:
    with pytest.raises(BadSample) as error:
        probed(content, name)
    return error.value.reason


def facts(container: str, codec: str, width: int, height: int, **more: Any) -> dict[str, Any]:
    stored = {
        "stored_width": width,
        "stored_height": height,
        "rotation": 0,
        "mirrored": False,
        "audio": False,
    }
    return {"container": container, "codec": codec, "width": width, "height": height, **stored, **more}


REAL = {
    "blocks.mp4": facts("mp4", "h264", 1280, 720, num_frames=292, audio=True),
    "demo.mp4": facts("mp4", "h264", 340, 256, num_frames=280, duration_s=10.0, fps=28.0),
    "dog.mp4": facts("mp4", "h264", 1280, 720, num_frames=289, audio=True),
    "juggle.mp4": facts("mp4", "h264", 1280, 720, num_frames=247, fps=24.0),
    "pancake.mkv": facts("mkv", "h264", 426, 240, num_frames=None, duration_s=10.381, audio=True),
    "rotated_180.mov": facts("mov", "h264", 568, 320, num_frames=3, rotation=180),
    "test.avi": facts("avi", "mpeg4", 320, 240, num_frames=164, fps=25.0, duration_s=6.56, audio=True),
}


@pytest.mark.parametrize("name", REAL)
def test_real_headers_say_what_is_known_of_them(name: str, shared_data: Path) -> None:
    meta = probe(Raw(name=name, content=shared_data / "video" / name))
    assert {key: meta[key] for key in REAL[name]} == REAL[name]


def test_headers_agree_with_ffmpeg(kind: str, written: Written) -> None:
    extension, content = written(kind)
    meta = probed(content, f"clip.{extension}")
    with av.open(BytesIO(content)) as file:
        stream = file.streams.video[0]
        name = stream.codec_context.name.replace("libdav1d", "av1")
        assert (meta["codec"], meta["width"], meta["height"]) == (name, stream.width, stream.height)
        packets = [packet for packet in file.demux(stream) if packet.size]
        assert meta["num_frames"] in (None, len(packets))
        assert (meta["num_frames"] is None) == (extension in ("mkv", "webm"))
        ticks = [packet.dts if packet.pts is None else packet.pts for packet in packets]
        span = float((max(ticks) - min(ticks)) * stream.time_base)
        assert meta["duration_s"] == pytest.approx(span + 0.04, abs=0.6 if "uneven" in kind else 0.05)
        if "uneven" not in kind and "fragmented" not in kind:
            assert meta["fps"] == pytest.approx(25, rel=0.01)
    assert meta["container"] == extension


def test_sound_is_noted(video_writer: Callable[..., bytes], moving: Any) -> None:
    for container in ("mp4", "matroska", "avi"):
        content = video_writer(moving, container=container, audio=True)
        assert probed(content, "clip")["audio"]


def test_packing_changes_no_byte(kind: str, written: Written) -> None:
    extension, content = written(kind)
    raw = Raw(name=f"a/B.{extension.upper()}", content=content)
    assert pack(raw, probe(raw)) == {extension: content}


def test_other_codecs_are_refused(video_writer: Callable[..., bytes], moving: Any) -> None:
    assert (
        reason(video_writer(moving, codec="magicyuv", container="avi"), "a.avi") == schema.UNSUPPORTED_CODEC
    )
    content = video_writer(moving, codec="ffv1", container="matroska")
    assert reason(content, "a.mkv") == schema.UNSUPPORTED_CODEC
    content = video_writer(moving, codec="mpeg2video", container="mp4")
    assert reason(content) == schema.UNSUPPORTED_CODEC  # "mp4v", as MPEG-4 is: the object type tells


def test_a_forbidden_second_track_is_refused(moving: Any) -> None:
    out = BytesIO()
    with av.open(out, "w", format="matroska") as file:
        streams: list[Any] = [file.add_stream(codec, rate=25) for codec in ("libx264", "ffv1")]
        for stream in streams:
            stream.height, stream.width, stream.pix_fmt = 96, 128, "yuv420p"
        for stream in streams:
            frame = av.VideoFrame.from_ndarray(moving[0], format="rgb24")
            frame.pts, frame.time_base = 0, Fraction(1, 25)
            file.mux(stream.encode(frame))
            file.mux(stream.encode(None))
    assert reason(out.getvalue(), "a.mkv") == schema.UNSUPPORTED_CODEC


PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"


@pytest.mark.parametrize(
    ("content", "name", "expected"),
    [
        (b"", "a.mp4", schema.EMPTY),
        (PLAYLIST, "a.mp4", schema.UNKNOWN_FORMAT),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", "a.mkv", schema.UNKNOWN_FORMAT),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "a.mp4", schema.UNKNOWN_FORMAT),
        (b"RIFF\x24\0\0\0WAVEfmt ", "a.avi", schema.UNKNOWN_FORMAT),
        (b"\0\0\0\x10ftypisom\0\0\0\0", "a.mp4", schema.TRUNCATED),
        (struct.pack(">I4sI4s", 12, b"ftyp", 0, b"isom"), "a.mp4", schema.TRUNCATED),
        (b"\0\0\0\x04ftypisom" + bytes(20), "a.mp4", schema.CORRUPT),
        (b"\x1a\x45\xdf\xa3\x80", "a.mkv", schema.TRUNCATED),
        (b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\xff", "a.mkv", schema.TRUNCATED),
    ],
)
def test_files_that_are_no_video_are_refused(content: bytes, name: str, expected: str) -> None:
    assert reason(content, name) == expected


def test_an_extension_that_says_otherwise_is_refused(written: Written) -> None:
    assert reason(written("h264-mp4")[1], "a.avi") == schema.EXTENSION_MISMATCH
    assert reason(written("mpeg4-avi")[1], "a.mkv") == schema.EXTENSION_MISMATCH
    assert reason(written("vp9-webm")[1], "a.mp4") == schema.EXTENSION_MISMATCH
    assert probed(written("h264-mov")[1], "a.mp4")["container"] == "mov"


def patched(content: bytes, mark: bytes, offset: int, value: bytes) -> bytes:
    at = content.index(mark) + offset
    return content[:at] + value + content[at + len(value) :]


def test_promises_over_the_caps_are_refused(written: Written) -> None:
    mp4, mkv, avi = (written(kind)[1] for kind in ("h264-mp4", "h264-mkv", "mpeg4-avi"))
    wide = struct.pack(">HH", 65535, 65535)
    assert reason(patched(mp4, b"avc1\0\0\0\0\0\0\0\1", 28, wide)) == schema.TOO_LARGE
    assert reason(patched(mp4, b"stts", 12, struct.pack(">I", 10**9))) == schema.TOO_LARGE
    assert reason(patched(mp4, b"stts", 16, struct.pack(">I", 2**32 - 1))) == schema.TOO_LARGE
    assert reason(patched(avi, b"strf", 12, struct.pack("<ii", 65535, 65535)), "a.avi") == schema.TOO_LARGE
    assert reason(patched(avi, b"strh", 40, struct.pack("<I", 10**9)), "a.avi") == schema.TOO_LARGE
    at = mkv.index(b"\x44\x89\x88") + 3
    for seconds, expected in (
        (1e12, schema.TOO_LARGE),
        (float("nan"), schema.CORRUPT),
        (-1.0, schema.CORRUPT),
    ):
        content = mkv[:at] + struct.pack(">d", seconds) + mkv[at + 8 :]
        assert reason(content, "a.mkv") == expected


def test_a_video_track_without_frames_or_size_is_refused(written: Written) -> None:
    mp4 = written("h264-mp4")[1]
    assert reason(patched(mp4, b"stts", 12, bytes(4))) == schema.NO_VIDEO
    assert reason(patched(mp4, b"avc1\0\0\0\0\0\0\0\1", 28, bytes(4))) == schema.CORRUPT
    assert reason(patched(mp4, b"hdlr", 12, b"soun")) == schema.NO_VIDEO


@pytest.mark.parametrize("kind_", ["h264-mp4", "h264-mkv", "mpeg4-avi", "vp9-webm"])
def test_a_file_cut_anywhere_is_refused(kind_: str, written: Written) -> None:
    extension, content = written(kind_)
    seen = set()
    for size in [*range(1, 400), *range(400, len(content) - 8, 97), len(content) - 9]:
        seen.add(reason(content[:size], f"a.{extension}"))
    assert seen <= {schema.TRUNCATED, schema.UNKNOWN_FORMAT}, seen


def test_a_cut_behind_the_index_is_seen(
    video_writer: Callable[..., bytes], moving: Any, tmp_path: Path
) -> None:
    path = tmp_path / "fast.mp4"
    with av.open(path, "w", options={"movflags": "+faststart"}) as file:
        stream: Any = file.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 96, 128, "yuv420p"
        for rgb in moving:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        file.mux(stream.encode(None))
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")
    assert probed(content)["num_frames"] == 13
    assert reason(content[: content.index(b"mdat") - 4]) == schema.TRUNCATED


@pytest.mark.parametrize("degrees", [0, 90, 180, -90])
def test_matroska_tells_its_rotation(degrees: int, written: Written) -> None:
    """A Projection element with a roll (RFC 9559, 5.1.4.1.28.41) grows the Video element by hand."""
    content = written("h264-mkv")[1]
    pose = b"\x76\x75\x84" + struct.pack(">f", degrees)
    projection = b"\x76\x70" + bytes([0x80 + len(pose)]) + pose
    rebuilt = grow(content, [0x18538067, 0x1654AE6B, 0xAE, 0xE0], projection)
    assert probed(rebuilt, "a.mkv")["rotation"] == -degrees % 360
    with av.open(BytesIO(rebuilt)) as file:
        assert next(file.decode(video=0)).rotation in (
            {degrees, -degrees} if abs(degrees) == 180 else {degrees}
        )


def grow(data: bytes, path: list[int], extra: bytes) -> bytes:
    """`extra` appended to the element at `path`; sizes on the way are written anew with eight bytes."""
    out, at = b"", 0
    while at < len(data):
        width = 9 - data[at].bit_length()
        name, start = int.from_bytes(data[at : at + width], "big"), at + width
        width2 = 9 - data[start].bit_length()
        size = int.from_bytes(data[start : start + width2], "big") & ((1 << 7 * width2) - 1)
        body = data[start + width2 : start + width2 + size]
        if name == path[0]:
            body = body + extra if len(path) == 1 else grow(body, path[1:], extra)
            out += data[at:start] + (1 << 56 | len(body)).to_bytes(8, "big") + body
        else:
            out += data[at : start + width2 + size]
        at = start + width2 + size
    return out


def test_a_live_webm_of_unknown_length_is_read(written: Written) -> None:
    content = bytearray(written("vp9-webm")[1])
    for mark in (b"\x18\x53\x80\x67", b"\x1f\x43\xb6\x75"):
        at = content.index(mark) + 4
        width = 9 - content[at].bit_length()
        content[at : at + width] = (2 ** (7 * width + 1) - 1).to_bytes(width, "big")
    meta = probed(bytes(content), "a.webm")
    assert (meta["codec"], meta["width"]) == ("vp9", 128)


@pytest.mark.parametrize("kind_", ["h264-mp4", "h264-fragmented", "h264-mkv", "mpeg4-avi", "mpeg4-mp4"])
def test_mutated_headers_give_facts_or_a_reason(kind_: str, written: Written) -> None:
    extension, golden = written(kind_)
    assert probed(golden, f"a.{extension}")
    reasons = {value for name, value in vars(schema).items() if name.isupper() and isinstance(value, str)}
    places = st.integers(0, len(golden) - 1)
    if "mp4" in kind_:  # the index, not the pictures
        places = st.integers(golden.index(b"moov"), len(golden) - 1)
    elif extension in ("mkv", "avi"):
        places = st.integers(0, min(6000, len(golden) - 1))

    @settings(max_examples=150, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(
        st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=6), st.integers(0, len(golden))
    )
    @example([(0, 0)], 0)
    def mutate(changes: list[tuple[int, int]], cut: int) -> None:
        content = bytearray(golden)
        for at, value in changes:
            content[at] = value
        if cut % 5 == 0:
            del content[cut:]
        began = time.process_time()
        try:
            meta = probed(bytes(content), f"a.{extension}")
            refused = None
        except BadSample as bad:
            meta, refused = {}, bad.reason
        assert refused in reasons or 0 < meta["width"] <= schema.MAX_SIDE
        assert refused in reasons or meta["codec"] in schema.CODECS
        assert time.process_time() - began < 5

    mutate()
