"""Matroska and WebM (EBML, RFC 8794 and RFC 9559)."""

import struct
from collections.abc import Iterator

from modalities.base import BadSample
from modalities.video.readers.isobmff import SAMPLE_ENTRIES
from modalities.video.readers.stream import Fields, Stream
from modalities.video.schema import CORRUPT, FOURCCS, NO_VIDEO, TRUNCATED, UNSUPPORTED_CODEC, Header, Track

EBML, SEGMENT, INFO, TRACKS, CLUSTER = 0x1A45DFA3, 0x18538067, 0x1549A966, 0x1654AE6B, 0x1F43B675
DOC_TYPE, SCALE, DURATION, ENTRY = 0x4282, 0x2AD7B1, 0x4489, 0xAE
TYPE, CODEC_ID, CODEC_PRIVATE, FRAME_NS, VIDEO = 0x83, 0x86, 0x63A2, 0x23E383, 0xE0
WIDTH, HEIGHT, PROJECTION, YAW, ROLL = 0xB0, 0xBA, 0x7670, 0x7673, 0x7675
ENCODINGS, ENCODING, ENCODING_TYPE = 0x6D80, 0x6240, 0x5033
# A level-1 element ends a cluster of unknown length, which live recorders write.
LEVEL_1 = (INFO, TRACKS, CLUSTER, 0x114D9B74, 0x1C53BB6B, 0x1941A469, 0x1043A770, 0x1254C367)

CODEC_IDS = {
    "V_MPEG4/ISO/AVC": "h264",
    "V_MPEGH/ISO/HEVC": "hevc",
    "V_VP8": "vp8",
    "V_VP9": "vp9",
    "V_AV1": "av1",
    "V_MJPEG": "mjpeg",
    **dict.fromkeys(("V_MPEG4/ISO/SP", "V_MPEG4/ISO/ASP", "V_MPEG4/ISO/AP"), "mpeg4"),
}


def matches(head: bytes) -> bool:
    """Whether a file that starts with these 16 bytes is read here."""
    return head[:4] == b"\x1a\x45\xdf\xa3"


def read(stream: Stream) -> Header:
    """EBML head, then the segment's children up to the first cluster that follows the tracks."""
    _, start, end = _element(stream, 0)
    doc_type = _children(stream.read(start, _known(end) - start, "EBML head"), stream).get(DOC_TYPE, [b""])[0]
    name, at, end = _element(stream, _known(end))
    if name != SEGMENT:
        raise BadSample(CORRUPT, f"EBML element {name:#x} where the segment was expected")
    info: dict[int, list[bytes]] = {}
    tracks: dict[int, list[bytes]] = {}
    clusters, open_cluster = 0, False
    limit = stream.size if end is None else end
    while at < limit and not (clusters and tracks and info):
        name, start, end = _element(stream, at)
        if name == CLUSTER:
            clusters += 1
            open_cluster = end is None
        elif open_cluster and name not in LEVEL_1:
            pass  # a child of the cluster of unknown length
        elif name == INFO:
            info = _children(stream.read(start, _known(end) - start, "Info"), stream)
        elif name == TRACKS:
            tracks = _children(stream.read(start, _known(end) - start, "Tracks"), stream)
        at = start if end is None else end
    if not tracks or not clusters:
        raise BadSample(TRUNCATED, "the file ends before its first cluster of frames")
    return _header(doc_type, info, tracks, stream)


def _header(
    doc_type: bytes, info: dict[int, list[bytes]], tracks: dict[int, list[bytes]], stream: Stream
) -> Header:
    scale = int.from_bytes(info.get(SCALE, [(10**6).to_bytes(4, "big")])[0], "big")  # ns a tick
    duration = _float(info[DURATION][0]) * scale / 1e9 if DURATION in info else None
    found, audio = [], False
    for entry in tracks.get(ENTRY, []):
        track = _children(entry, stream)
        kind = _uint(track, TYPE)
        audio |= kind == 2
        if kind == 1:
            found.append(_track(track, duration, stream))
    if not found:
        raise BadSample(NO_VIDEO, "a Matroska file without a video track")
    return Header(container="webm" if doc_type[:4] == b"webm" else "mkv", tracks=tuple(found), audio=audio)


def _track(track: dict[int, list[bytes]], duration_s: float | None, stream: Stream) -> Track:
    for encodings in track.get(ENCODINGS, []):
        for encoding in _children(encodings, stream).get(ENCODING, []):
            if _uint(_children(encoding, stream), ENCODING_TYPE) == 1:
                raise BadSample(UNSUPPORTED_CODEC, "the video track is encrypted")
    video = _children(track.get(VIDEO, [b""])[0], stream)
    frame_ns = _uint(track, FRAME_NS)
    rotation, mirrored = 0, False
    if PROJECTION in video:
        pose = _children(video[PROJECTION][0], stream)
        mirrored = abs(_float(pose[YAW][0])) == 180 if YAW in pose else False
        roll = _float(pose[ROLL][0]) if ROLL in pose else 0.0
        rotation = round((roll if mirrored else -roll) / 90) % 4 * 90 if abs(roll) <= 180 else 0
    return Track(
        codec=_codec(track),
        width=_uint(video, WIDTH),
        height=_uint(video, HEIGHT),
        rotation=rotation,
        mirrored=mirrored,
        duration_s=duration_s,
        fps=1e9 / frame_ns if frame_ns else None,
    )


def _codec(track: dict[int, list[bytes]]) -> str:
    name = track.get(CODEC_ID, [b""])[0].rstrip(b"\0").decode("latin-1")
    private = Fields(track.get(CODEC_PRIVATE, [b""])[0], "CodecPrivate")
    if name == "V_MS/VFW/FOURCC":  # a BITMAPINFOHEADER
        fourcc = private.bytes(16, 4).decode("latin-1")
        return FOURCCS.get(fourcc.upper(), fourcc)
    if name == "V_QUICKTIME":  # a sample entry
        fourcc = private.bytes(4, 4).decode("latin-1")
        return SAMPLE_ENTRIES.get(fourcc, fourcc)
    return CODEC_IDS.get(name, name)


def _element(stream: Stream, at: int) -> tuple[int, int, int | None]:
    """(id, start of the payload, its end or None when unknown) of the element at a byte of the file."""
    stream.step()
    head = stream.read(at, min(12, stream.size - at), "element")
    name, width = _vint(head, 0, keep=True)
    size, width2 = _vint(head, width, keep=False)
    start = at + width + width2
    if size == (1 << 7 * width2) - 1:
        return name, start, None
    stream.fits(at, start + size, f"element {name:#x}")
    return name, start, start + size


def _vint(data: bytes, at: int, *, keep: bool) -> tuple[int, int]:
    """Value and width of a variable-length integer; `keep` leaves its length marker in, as ids do."""
    if at >= len(data):
        raise BadSample(TRUNCATED, "the file ends inside an element's head")
    width = 9 - data[at].bit_length()
    if width > 8 or (keep and width > 4):
        raise BadSample(CORRUPT, f"byte {data[at]:#04x} does not start an EBML number")
    if at + width > len(data):
        raise BadSample(TRUNCATED, "the file ends inside an element's head")
    value = int.from_bytes(data[at : at + width], "big")
    return (value if keep else value & ((1 << 7 * width) - 1)), width


def _known(end: int | None) -> int:
    if end is None:
        raise BadSample(CORRUPT, "an element that must have a length has none")
    return end


def _children(data: bytes, stream: Stream) -> dict[int, list[bytes]]:
    """Payloads by id, in order."""
    found: dict[int, list[bytes]] = {}
    for name, payload in _elements(data, stream):
        found.setdefault(name, []).append(payload)
    return found


def _elements(data: bytes, stream: Stream) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        stream.step()
        name, width = _vint(data, at, keep=True)
        size, width2 = _vint(data, at + width, keep=False)
        at += width + width2
        if at + size > len(data):
            raise BadSample(CORRUPT, f"element {name:#x} of {size} bytes does not fit its parent")
        yield name, data[at : at + size]
        at += size


def _uint(elements: dict[int, list[bytes]], name: int) -> int:
    return int.from_bytes(elements.get(name, [b""])[0], "big")


def _float(data: bytes) -> float:
    if len(data) not in (4, 8):
        raise BadSample(CORRUPT, f"an EBML float of {len(data)} bytes")
    value: float = struct.unpack(">f" if len(data) == 4 else ">d", data)[0]
    return value
