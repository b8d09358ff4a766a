"""MP4 and MOV (ISO/IEC 14496-12, QuickTime): boxes, whole or fragmented."""

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from modalities.base import BadSample
from modalities.video.readers.stream import Fields, Stream, walk_boxes
from modalities.video.schema import CORRUPT, MAX_FRAMES, NO_VIDEO, TOO_LARGE, TRUNCATED, Header, Track

SAMPLE_ENTRIES = {
    **dict.fromkeys(("avc1", "avc3"), "h264"),
    **dict.fromkeys(("hvc1", "hev1"), "hevc"),
    **dict.fromkeys(("jpeg", "mjpa", "MJPG"), "mjpeg"),
    **dict.fromkeys(("XVID", "DIVX", "FMP4"), "mpeg4"),
    **{"vp08": "vp8", "vp09": "vp9", "av01": "av1"},
}
OBJECT_TYPES = {0x20: "mpeg4", 0x6C: "mjpeg", 0x21: "h264", 0x23: "hevc"}  # of "mp4v", in its esds
FIRST_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")  # QuickTime may lack ftyp

Matrix = NDArray[np.float64]  # (2, 2): [[a, b], [c, d]], x' = a x + c y, y' = b x + d y, y down


def matches(head: bytes) -> bool:
    """Whether a file that starts with these 16 bytes is read here."""
    return head[4:8] in FIRST_BOXES


@dataclass
class _Fragments:
    """What the moof boxes add to one track."""

    default_duration: int = 0  # trex, in ticks of the track
    num_frames: int = 0
    ticks: int = 0


@dataclass
class _File:
    stream: Stream
    brand: bytes = b"qt  "
    moov: bytes | None = None
    fragments: dict[int, _Fragments] = field(default_factory=dict)


def read(stream: Stream) -> Header:
    """Walk the top level, then the tracks in moov."""
    file = _walk(stream)
    if file.moov is None:
        raise BadSample(
            TRUNCATED, "no moov box: the index of an MP4 often comes last, and here it is missing"
        )
    tracks: list[Track] = []
    audio, turn = False, np.eye(2)
    boxes = list(walk_boxes(file.moov, "moov", stream))
    for name, data in boxes:
        if name == "mvhd":
            turn = _matrix(Fields(data, "mvhd"), 36 if data[:1] != b"\1" else 48)
        elif name == "cmov":
            raise BadSample(CORRUPT, "compressed moov (cmov) is not read; write the file again")
    for name, data in boxes:
        if name == "trak":
            kind, track = _track(data, file, turn)
            audio |= kind == "soun"
            if track is not None:
                tracks.append(track)
    container = "mov" if file.brand == b"qt  " else "mp4"
    return Header(container=container, tracks=tuple(tracks), audio=audio)


def _walk(stream: Stream) -> _File:
    file, at = _File(stream), 0
    moofs: list[bytes] = []
    while at + 8 <= stream.size:
        stream.step()
        head = Fields(stream.read(at, min(16, stream.size - at), "box"), "box")
        size, name, start = head.uint(0), head.bytes(4, 4), at + 8
        if size == 1:
            size, start = head.uint(8, 8), at + 16
        elif size == 0:
            size = stream.size - at
        if size < start - at:
            raise BadSample(CORRUPT, f"box {name!r} at byte {at:,} claims {size} bytes")
        stream.fits(at, at + size, f"box {name!r}")
        if name == b"ftyp":
            file.brand = stream.read(start, 4, "ftyp")
        elif name == b"moov" and file.moov is None:
            file.moov = stream.read(start, at + size - start, "moov")
            for box, data in walk_boxes(file.moov, "moov", stream):
                if box == "mvex":
                    _defaults(data, file)
        elif name == b"moof":
            moofs.append(stream.read(start, at + size - start, "moof"))
        at += size
    for moof in moofs:
        _fragment(moof, file)
    return file


def _defaults(mvex: bytes, file: _File) -> None:
    for name, data in walk_boxes(mvex, "mvex", file.stream):
        if name == "trex":
            trex = Fields(data, "trex")
            file.fragments[trex.uint(4)] = _Fragments(default_duration=trex.uint(12))


def _fragment(moof: bytes, file: _File) -> None:
    for name, data in walk_boxes(moof, "moof", file.stream):
        if name != "traf":
            continue
        track, duration = _Fragments(), 0
        for part, inner in walk_boxes(data, "traf", file.stream):
            fields = Fields(inner, part)
            if part == "tfhd":
                flags = fields.uint(0) & 0xFFFFFF
                track = file.fragments.setdefault(fields.uint(4), _Fragments())
                duration = track.default_duration
                if flags & 0x8:
                    duration = fields.uint(8 + 8 * bool(flags & 0x1) + 4 * bool(flags & 0x2))
            elif part == "trun":
                _run(fields, track, duration)


def _run(trun: Fields, track: _Fragments, duration: int) -> None:
    flags, count = trun.uint(0) & 0xFFFFFF, trun.uint(4)
    if track.num_frames + count > 100 * MAX_FRAMES:  # sound passes here too
        raise BadSample(TOO_LARGE, f"fragments of {track.num_frames + count:,} samples")
    start = 8 + 4 * bool(flags & 0x1) + 4 * bool(flags & 0x4)
    width = sum(bool(flags & bit) for bit in (0x100, 0x200, 0x400, 0x800))
    track.num_frames += count
    if flags & 0x100:  # durations come first in a row
        rows = np.frombuffer(trun.bytes(start, 4 * width * count), ">u4").reshape(count, width)
        track.ticks += int(rows[:, 0].sum(dtype=np.uint64))
    else:
        track.ticks += duration * count


def _track(trak: bytes, file: _File, turn: Matrix) -> tuple[str, Track | None]:
    """Handler type ("vide", "soun", ...) and, of a video track, its facts."""
    top = dict(walk_boxes(trak, "trak", file.stream))
    media = dict(walk_boxes(top.get("mdia", b""), "mdia", file.stream))
    kind = media.get("hdlr", b"")[8:12].decode("latin-1")
    if kind != "vide":
        return kind, None
    tkhd, mdhd = Fields(top.get("tkhd", b""), "tkhd"), Fields(media.get("mdhd", b""), "mdhd")
    long = tkhd.uint(0, 1) == 1
    number, matrix = tkhd.uint(20 if long else 12), _matrix(tkhd, 52 if long else 40)
    rotation, mirrored = orientation(matrix @ turn)
    minf = dict(walk_boxes(media.get("minf", b""), "minf", file.stream))
    table = dict(walk_boxes(minf.get("stbl", b""), "stbl", file.stream))
    codec, width, height = _sample_entry(table.get("stsd", b""), file.stream)
    num_frames, ticks = _times(Fields(table.get("stts", bytes(8)), "stts"))
    _check_chunks(table, file.stream)
    if number in file.fragments:
        num_frames += file.fragments[number].num_frames
        ticks += file.fragments[number].ticks
    scale = mdhd.uint(20 if mdhd.uint(0, 1) == 1 else 12)
    duration = ticks / scale if scale and ticks else None
    return kind, Track(
        codec=codec,
        width=width,
        height=height,
        rotation=rotation,
        mirrored=mirrored,
        num_frames=num_frames,
        duration_s=duration,
        fps=num_frames / duration if duration else None,
    )


def _matrix(fields: Fields, start: int) -> Matrix:
    a, b, c, d = (fields.sint(start + at) / 65536 for at in (0, 4, 12, 16))
    return np.array([[a, b], [c, d]])


def orientation(matrix: Matrix) -> tuple[int, bool]:
    """Nearest (degrees clockwise, mirrored first) of a display matrix; (0, False) if singular."""
    (a, b), (c, d) = matrix
    det = a * d - b * c
    if not math.isfinite(det) or det == 0:
        return 0, False
    mirrored = bool(det < 0)
    if mirrored:
        a, b = -a, -b  # undo the flip of x, which comes first
    return round(math.degrees(math.atan2(b, a)) / 90) % 4 * 90, mirrored


def _sample_entry(stsd: bytes, stream: Stream) -> tuple[str, int, int]:
    """Codec, width and height of the first entry; every entry must be of one codec."""
    entries = list(walk_boxes(stsd[8:], "stsd", stream))
    if not entries:
        raise BadSample(NO_VIDEO, "the video track has no sample description")
    codecs = {_codec(name, data, stream) for name, data in entries}
    if len(codecs) > 1:
        raise BadSample(CORRUPT, f"one video track mixes codecs {sorted(codecs)}")
    fields = Fields(entries[0][1], "sample entry")
    return codecs.pop(), fields.uint(24, 2), fields.uint(26, 2)


def _codec(name: str, entry: bytes, stream: Stream) -> str:
    if name != "mp4v":
        return SAMPLE_ENTRIES.get(name, name)
    for box, data in walk_boxes(entry[78:], "mp4v", stream):
        if box == "esds":
            return OBJECT_TYPES.get(_object_type(Fields(data, "esds")), "mp4v of another object type")
    return "mpeg4"


def _object_type(esds: Fields) -> int:
    """Value of objectTypeIndication of a DecoderConfigDescriptor (ISO/IEC 14496-1)."""
    at = 4  # version and flags
    for _ in range(8):
        tag, at = esds.uint(at, 1), at + 1
        while esds.uint(at, 1) & 0x80:  # length, seven bits a byte
            at += 1
        at += 1
        if tag == 4:
            return esds.uint(at, 1)
        flags = esds.uint(at + 2, 1) if tag == 3 else 0
        at += 3
        if flags & 0x80:
            at += 2
        if flags & 0x40:
            at += 1 + esds.uint(at, 1)
        if flags & 0x20:
            at += 2
    return 0


def _times(stts: Fields) -> tuple[int, int]:
    """Frames and ticks of a time-to-sample table."""
    entries = stts.uint(4)
    table = np.frombuffer(stts.bytes(8, 8 * entries), ">u4").reshape(-1, 2).astype(np.float64)
    num_frames = table[:, 0].sum()
    if num_frames > MAX_FRAMES:
        raise BadSample(TOO_LARGE, f"{num_frames:,.0f} frames, more than {MAX_FRAMES:,}; cut it into files")
    return int(num_frames), int((table[:, 0] * table[:, 1]).sum())


def _check_chunks(table: dict[str, bytes], stream: Stream) -> None:
    """A file cut between two boxes still has an index that points past its end."""
    for name, width in (("stco", 4), ("co64", 8)):
        if name in table:
            box = Fields(table[name], name)
            offsets = np.frombuffer(box.bytes(8, width * box.uint(4)), f">u{width}")
            if len(offsets) and int(offsets.max()) >= stream.size:
                raise BadSample(
                    TRUNCATED, f"frames at byte {int(offsets.max()):,}, the file ends at {stream.size:,}"
                )
