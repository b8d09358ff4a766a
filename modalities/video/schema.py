"""What is known about a video from its header, and the limits it must keep."""

from dataclasses import dataclass

MAX_SIDE = 8192  # pixels
MAX_FRAMES = 1_000_000
MAX_DURATION_S = 24 * 3600.0
MAX_HEADER_BYTES = 64 * 2**20  # moov of a million frames is about 20 MB
MAX_BOXES = 500_000  # boxes, elements or chunks walked in one file

CODECS = ("h264", "hevc", "vp8", "vp9", "av1", "mpeg4", "mjpeg")  # FFmpeg's names

# Reasons of a refusal. They are counted in reports, so they never change their meaning.
EMPTY = "empty"  # no bytes
UNKNOWN_FORMAT = "unknown-format"  # neither ISO base media, Matroska nor AVI
EXTENSION_MISMATCH = "extension-mismatch"  # the name promises another container than the bytes
TRUNCATED = "truncated"  # something reaches past the end of the file
TOO_LARGE = "too-large"  # over a cap on pixels, frames, seconds, header or decoded bytes
UNSUPPORTED_CODEC = "unsupported-codec"  # not one of CODECS, or encrypted
NO_VIDEO = "no-video"  # a container without a video track or without a frame
CORRUPT = "corrupt"  # contradicts its own format, or does not decode

# FourCCs of AVI, and of Matroska's V_MS/VFW/FOURCC, upper case
FOURCCS = {
    **dict.fromkeys(("H264", "X264", "AVC1", "DAVC"), "h264"),
    **dict.fromkeys(("HEVC", "H265", "X265", "HVC1", "HEV1"), "hevc"),
    **dict.fromkeys(("FMP4", "XVID", "DIVX", "DX50", "MP4V", "M4S2", "MP4S", "3IV2"), "mpeg4"),
    **{"VP80": "vp8", "VP90": "vp9", "AV01": "av1", "MJPG": "mjpeg"},
}


@dataclass(frozen=True, kw_only=True)
class Track:
    """A video track as its container describes it."""

    codec: str  # one of CODECS, or the container's own name for something else
    width: int  # stored pixels, before rotation
    height: int
    rotation: int = 0  # degrees clockwise to turn the stored frame for display: 0, 90, 180, 270
    mirrored: bool = False  # flip left to right before turning
    num_frames: int | None = None
    duration_s: float | None = None
    fps: float | None = None  # average


@dataclass(frozen=True, kw_only=True)
class Header:
    """A container's facts: `tracks` are the video tracks, in file order."""

    container: str  # mp4, mov, mkv, webm, avi: the member's extension in a shard
    tracks: tuple[Track, ...]
    audio: bool
