"""Header facts of a video and the caps it must keep, without FFmpeg."""

import math

from modalities.base import BadSample, Files, Meta, Raw
from modalities.video.readers import avi, isobmff, matroska
from modalities.video.readers.stream import Stream
from modalities.video.schema import (
    CODECS,
    CORRUPT,
    EMPTY,
    EXTENSION_MISMATCH,
    MAX_DURATION_S,
    MAX_FRAMES,
    MAX_SIDE,
    NO_VIDEO,
    TOO_LARGE,
    UNKNOWN_FORMAT,
    UNSUPPORTED_CODEC,
    Track,
)

READERS = (isobmff, matroska, avi)
# Files are renamed between neighbours that players treat alike; a shard gets the canonical extension.
FAMILIES = {
    **dict.fromkeys(("mp4", "m4v", "mov"), ("mp4", "mov")),
    **dict.fromkeys(("mkv", "webm"), ("mkv", "webm")),
    "avi": ("avi",),
}
EXTENSIONS = ("mp4", "mov", "mkv", "webm", "avi")  # of the member that holds the video


def probe(raw: Raw) -> Meta:
    """Facts of the first video track; width and height as displayed, `stored_*` before rotation.

    `container, codec, width, height, stored_width, stored_height, rotation` (degrees clockwise), `mirrored`,
    `duration_s`, `num_frames` (None where the header does not say), `fps` (average), `audio`.
    BadSample reasons: modalities.video.schema.
    """
    head = raw.head(16)
    if not head:
        raise BadSample(EMPTY, f"{raw.name} has no bytes")
    reader = next((reader for reader in READERS if reader.matches(head)), None)
    if reader is None:
        raise BadSample(UNKNOWN_FORMAT, f"{raw.name} starts with {head!r}; want MP4, MOV, MKV, WebM or AVI")
    with raw.open() as file:
        header = reader.read(Stream(file, raw.size))
    suffix = raw.filename.rpartition(".")[2]
    if header.container not in FAMILIES.get(suffix, EXTENSIONS):
        raise BadSample(EXTENSION_MISMATCH, f"{raw.name} is {header.container}; rename it")
    if not header.tracks:
        raise BadSample(NO_VIDEO, f"{raw.name} has no video track")
    for track in header.tracks:  # FFmpeg opens a decoder for each of them while it looks for the best
        _check(track, raw.name)
    track = header.tracks[0]
    sides = (track.width, track.height)
    width, height = sides if track.rotation % 180 == 0 else sides[::-1]
    return {
        "container": header.container,
        "codec": track.codec,
        "width": width,
        "height": height,
        "stored_width": track.width,
        "stored_height": track.height,
        "rotation": track.rotation,
        "mirrored": track.mirrored,
        "duration_s": track.duration_s,
        "num_frames": track.num_frames,
        "fps": track.fps,
        "audio": header.audio,
    }


def _check(track: Track, name: str) -> None:
    if track.codec not in CODECS:
        raise BadSample(UNSUPPORTED_CODEC, f"{name} holds {track.codec!r}; transcode it to one of {CODECS}")
    if not (track.width and track.height):
        raise BadSample(CORRUPT, f"{name} says its frames are {track.width}x{track.height}")
    if max(track.width, track.height) > MAX_SIDE:
        raise BadSample(TOO_LARGE, f"{name} is {track.width}x{track.height}, over {MAX_SIDE} pixels a side")
    if track.num_frames == 0:
        raise BadSample(NO_VIDEO, f"{name} has a video track without frames")
    if (track.num_frames or 0) > MAX_FRAMES:
        raise BadSample(TOO_LARGE, f"{name} has {track.num_frames:,} frames, more than {MAX_FRAMES:,}")
    for value in (track.duration_s, track.fps):
        if value is not None and (not math.isfinite(value) or value < 0):
            raise BadSample(CORRUPT, f"{name} lasts {track.duration_s} s at {track.fps} frames a second")
    if (track.duration_s or 0) > MAX_DURATION_S:
        raise BadSample(TOO_LARGE, f"{name} lasts {track.duration_s:,.0f} s, more than {MAX_DURATION_S:,.0f}")


def pack(raw: Raw, meta: Meta) -> Files:
    """The file as it is: rotation tag, timestamps and audio stay where they are."""
    return {meta["container"]: raw.read()}
