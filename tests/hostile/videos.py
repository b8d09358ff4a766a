"""Hostile videos, and what poses as one."""

import struct
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from io import BytesIO
from typing import Any

import av
from hostile.case import KEPT, Case, Place, builders, stored

conftest = builders("modalities/video/conftest.py")
probe = builders("modalities/video/test_probe.py")


@cache
def clip(container: str = "mp4", codec: str = "libx264", pixels: str = "yuv420p") -> bytes:
    content: bytes = conftest.write(conftest.textured(3), codec=codec, container=container, pixels=pixels)
    return content


def patched(content: bytes, mark: bytes, offset: int, value: bytes) -> bytes:
    done: bytes = probe.patched(content, mark, offset, value)
    return done


@cache
def two_tracks() -> bytes:
    out = BytesIO()
    with av.open(out, "w", format="matroska") as file:
        streams: list[Any] = [file.add_stream(codec, rate=25) for codec in ("libx264", "ffv1")]
        for stream in streams:
            stream.height, stream.width, stream.pix_fmt = 96, 128, "yuv420p"
        for stream in streams:
            frame = av.VideoFrame.from_ndarray(conftest.textured(1)[0], format="rgb24")
            frame.pts, frame.time_base = 0, Fraction(1, 25)
            file.mux(stream.encode(frame))
            file.mux(stream.encode(None))
    return out.getvalue()


def duration(seconds: float) -> bytes:
    content = clip("matroska")
    at = content.index(b"\x44\x89\x88") + 3
    return content[:at] + struct.pack(">d", seconds) + content[at + 8 :]


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def nested(depth: int) -> bytes:
    """Boxes in boxes."""
    content = b""
    for _ in range(depth):
        content = box(b"trak", content)
    return box(b"ftyp", b"isom\0\0\0\0") + box(b"moov", content)


def referring(place: Place) -> bytes:
    """An MP4 whose frames lie in another file, as QuickTime's data references allow."""
    content = clip()
    at = content.index(b"url \0\0\0\1") + 7
    return content[:at] + b"\0" + content[at + 1 :]


def playlist(place: Place) -> bytes:
    return f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile://{place.canary}\n#EXT-X-ENDLIST\n".encode()


def web_playlist(place: Place) -> bytes:
    return f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{place.url}/a.ts\n#EXT-X-ENDLIST\n".encode()


def concat(place: Place) -> bytes:
    return f"ffconcat version 1.0\nfile {place.canary}\n".encode()


def sdp(place: Place) -> bytes:
    return b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\n"


def dash(place: Place) -> bytes:
    return (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" mediaPresentationDuration="PT9S">'
        f'<Period><AdaptationSet mimeType="video/mp4"><Representation id="1"><BaseURL>{place.url}/a.mp4'
        "</BaseURL></Representation></AdaptationSet></Period></MPD>"
    ).encode()


def cases() -> list[Case]:
    mp4, mkv, avi = clip(), clip("matroska"), clip("avi", "mpeg4")
    visual = b"avc1\0\0\0\0\0\0\0\1"
    wide = struct.pack(">HH", 65535, 65535)

    def case(
        name: str, about: str, reason: str, extension: str, content: bytes | Callable[[Place], bytes]
    ) -> Case:
        file = f"{name}.{extension}"
        return Case(
            name=name, about=about, modality="video", reason=reason, make=stored(file, content), file=file,
            library="PyAV",
        )  # fmt: skip

    return [
        case("playlist", "an HLS playlist of a local file, called .mp4", "unknown-format", "mp4", playlist),
        case("playlist-web", "an HLS playlist of a server inside, called .mp4", "unknown-format", "mp4",
             web_playlist),
        case("playlist-mkv", "the same called .mkv", "unknown-format", "mkv", web_playlist),
        case("concat", "an ffconcat list of a local file", "unknown-format", "mkv", concat),
        case("sdp", "a session description that opens sockets", "unknown-format", "mp4", sdp),
        case("dash", "a DASH manifest of a server inside", "unknown-format", "mp4", dash),
        case("image", "a PNG called .mp4", "unknown-format", "mp4", b"\x89PNG\r\n\x1a\n" + bytes(40)),
        case("sound", "a WAV called .avi", "unknown-format", "avi", b"RIFF\x24\0\0\0WAVEfmt " + bytes(40)),
        case("empty", "no bytes", "empty", "mp4", b""),
        case("avi-called-mkv", "an AVI called .mkv", "extension-mismatch", "mkv", avi),
        case("only-ftyp", "a header and nothing else", "truncated", "mp4", box(b"ftyp", b"isom\0\0\0\0")),
        case("box-of-4", "a box smaller than its head", "corrupt", "mp4", b"\0\0\0\x04ftypisom" + bytes(20)),
        case("box-of-2-63", "a box of 2^63 bytes", "truncated", "mp4",
             box(b"ftyp", b"isom\0\0\0\0") + b"\0\0\0\x01moov" + b"\x7f" + b"\xff" * 7 + bytes(40)),
        case("nested", "20,000 boxes inside each other", "no-video", "mp4", nested(20_000)),
        case("many-boxes", "600,000 boxes", "too-large", "mp4",
             box(b"ftyp", b"isom\0\0\0\0") + box(b"free", b"") * 600_000),
        case("cut", "half of a clip", "truncated", "mp4", mp4[: len(mp4) // 2]),
        case("cut-mkv", "half of a clip", "truncated", "mkv", mkv[: len(mkv) // 2]),
        case("65535-square", "frames of 65535 x 65535", "too-large", "mp4", patched(mp4, visual, 28, wide)),
        case("65535-square-avi", "frames of 65535 x 65535", "too-large", "avi",
             patched(avi, b"strf", 12, struct.pack("<ii", 65535, 65535))),
        case("no-size", "frames of 0 x 0", "corrupt", "mp4", patched(mp4, visual, 28, bytes(4))),
        case("billion-frames", "10^9 frames", "too-large", "mp4",
             patched(mp4, b"stts", 12, struct.pack(">I", 10**9))),
        case("billion-frames-avi", "10^9 frames", "too-large", "avi",
             patched(avi, b"strh", 40, struct.pack("<I", 10**9))),
        case("frame-of-years", "frames of 2^32 ticks", "too-large", "mp4",
             patched(mp4, b"stts", 16, struct.pack(">I", 2**32 - 1))),
        case("no-frames", "a track of no frames", "no-video", "mp4", patched(mp4, b"stts", 12, bytes(4))),
        case("only-sound", "a track that says it is sound", "no-video", "mp4", patched(mp4, b"hdlr",
             12, b"soun")),
        case("rate-of-nothing", "a rate of 1 / 0", KEPT, "avi",
             patched(avi, b"strh", 28, struct.pack("<I", 0))),
        case("duration-10-12", "a duration of 10^12 s", "too-large", "mkv", duration(1e12)),
        case("duration-nan", "a duration that is no number", "corrupt", "mkv", duration(float("nan"))),
        case("duration-negative", "a duration of -1 s", "corrupt", "mkv", duration(-1.0)),
        case("codec-magicyuv", "MagicYUV, of CVE-2026-8461", "unsupported-codec", "avi",
             clip("avi", "magicyuv", "yuv420p")),
        case("codec-ffv1", "FFV1", "unsupported-codec", "mkv", clip("matroska", "ffv1")),
        case("codec-raw", "raw pixels", "unsupported-codec", "avi", clip("avi", "rawvideo")),
        case("codec-in-second-track", "FFV1 behind an H.264 track", "unsupported-codec", "mkv", two_tracks()),
        case("frames-elsewhere", "frames that lie in another file by a data reference", KEPT, "mp4",
             referring),
        case("ebml-cut", "an EBML header of nothing", "truncated", "mkv", b"\x1a\x45\xdf\xa3\x80"),
        case("garbage-frames", "frames of garbage", "corrupt", "mp4",
             mp4[: mp4.index(b"mdat") + 4] + b"\xff" * 400 + mp4[mp4.index(b"mdat") + 404 :]),
    ]  # fmt: skip
