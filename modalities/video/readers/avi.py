"""AVI (RIFF): avih, and strh with strf for each stream."""

from collections.abc import Iterator

from modalities.base import BadSample
from modalities.video.readers.stream import Fields, Stream
from modalities.video.schema import CORRUPT, FOURCCS, NO_VIDEO, TRUNCATED, Header, Track


def matches(head: bytes) -> bool:
    """Whether a file that starts with these 16 bytes is read here."""
    return head[:4] == b"RIFF" and head[8:12] in (b"AVI ", b"AVIX")


def read(stream: Stream) -> Header:
    """Walk the chunks of the first RIFF; the frames themselves are skipped."""
    tracks: list[Track] = []
    audio = frames = False
    end = 8 + Fields(stream.read(0, 12, "RIFF"), "RIFF", little=True).uint(4)
    stream.fits(0, end, "RIFF")
    at = 12
    while at + 8 <= end:
        stream.step()
        head = Fields(stream.read(at, 12 if at + 12 <= end else 8, "chunk"), "chunk", little=True)
        name, size = head.bytes(0, 4), head.uint(4)
        stream.fits(at, at + 8 + size, f"chunk {name!r}")
        if name == b"LIST" and head.bytes(8, 4) == b"hdrl":
            for child, data in _chunks(stream.read(at + 12, max(size - 4, 0), "hdrl"), stream):
                if child == b"LIST" and data[:4] == b"strl":
                    parts = dict(_chunks(data[4:], stream))
                    kind = parts.get(b"strh", b"")[:4]
                    audio |= kind == b"auds"
                    if kind == b"vids":
                        tracks.append(_track(parts))
        frames |= name == b"LIST" and head.bytes(8, 4) == b"movi"
        at += 8 + size + size % 2
    if not tracks:
        raise BadSample(NO_VIDEO, "an AVI without a vids stream")
    if not frames:
        raise BadSample(TRUNCATED, "an AVI without its movi list")
    return Header(container="avi", tracks=tuple(tracks), audio=audio)


def _chunks(data: bytes, stream: Stream) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at + 8 <= len(data):
        stream.step()
        name, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        if at + 8 + size > len(data):
            raise BadSample(CORRUPT, f"chunk {name!r} of {size} bytes at {at} does not fit its list")
        yield name, data[at + 8 : at + 8 + size]
        at += 8 + size + size % 2


def _track(parts: dict[bytes, bytes]) -> Track:
    header = Fields(parts[b"strh"], "strh", little=True)
    form = Fields(parts.get(b"strf", b""), "strf", little=True)  # BITMAPINFOHEADER
    fourcc = form.bytes(16, 4).decode("latin-1")
    scale, rate, length = header.uint(20), header.uint(24), header.uint(32)
    fps = rate / scale if scale and rate else None
    return Track(
        codec=FOURCCS.get(fourcc.upper(), fourcc),
        width=form.uint(4),
        height=abs(form.sint(8)),  # negative: rows from the top
        num_frames=length or None,
        duration_s=length / fps if fps and length else None,
        fps=fps,
    )
