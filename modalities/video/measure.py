"""Quality and fingerprint straight from a file: every frame is decoded, few become pixels, none RGB."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from modalities.base import BadSample, Files, Measured, Meta, Raw
from modalities.libraries import load
from modalities.video.codec import member, sample
from modalities.video.fingerprint import SIDE, fingerprint, printed, shots
from modalities.video.frames import Timeline, opened, timeline_of
from modalities.video.quality import Grey, numbers, pairs, quality, resized, seen

if TYPE_CHECKING:
    import av
    from av.video.stream import VideoStream

MAX_PIXELS = 2**28  # of all frames: a second or two of decoding; of a longer video a sample is looked at
MAX_BYTES = 2**26  # of a file whose packets are held


def measure(files: Files, meta: Meta) -> Measured:
    """What `quality` and `fingerprint` say of all frames, within a few grey levels.

    Of a longer video, or one whose frames are not as its container says, what they say of `sample`.
    """
    raw = member(files)
    measured = _whole(raw, meta) if raw.size <= MAX_BYTES else None
    if measured is not None:
        return measured
    arrays = sample(files)
    return quality(arrays), fingerprint(arrays)


def _whole(raw: Raw, meta: Meta) -> Measured | None:
    """None for a video that is too long, or odd: then `sample` says whether enough of it can be read."""
    try:
        with opened(raw, meta) as (container, stream):
            packets = list(container.demux(stream))
            timeline = timeline_of(packets, stream, raw, meta)
            num_frames = len(timeline.times)
            if num_frames * timeline.height * timeline.width > MAX_PIXELS:
                return None
            both, picks = pairs(num_frames), shots(timeline.times).tolist()
            greys = _greys(packets, meta, timeline, {*np.concatenate(both).tolist(), *picks})
    except BadSample:
        return None
    if greys is None:
        return None
    small = {i: resized(greys[i], (SIDE, SIDE)) for i in set(picks)}
    return numbers(greys, both, timeline.times), printed(np.stack([small[i] for i in picks]))


def _greys(
    packets: "Iterable[av.Packet[VideoStream]]", meta: Meta, timeline: Timeline, wanted: set[int]
) -> dict[int, Grey] | None:
    """Luminance of the frames asked for, small and turned for display; None if frames and packets differ."""
    load("av")
    from av.video.reformatter import VideoReformatter

    height, width = timeline.height, timeline.width
    sides = seen(height, width)
    scaler, found, count = VideoReformatter(), dict[int, Grey](), 0
    for packet in packets:
        for frame in packet.decode():
            if (frame.height, frame.width) != (height, width):
                return None
            if count in wanted:
                small = scaler.reformat(frame, sides[1], sides[0], "gray", interpolation="AREA", threads=1)
                grey = small.to_ndarray()[:, :: -1 if meta["mirrored"] else 1]
                found[count] = np.ascontiguousarray(np.rot90(grey, -meta["rotation"] // 90))
            count += 1
    return found if count == len(timeline.times) else None
