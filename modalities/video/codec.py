"""Videos <-> arrays: RGB frames with the second each is shown at."""

from collections.abc import Callable
from io import BytesIO

import numpy as np
from numpy.typing import NDArray

from modalities import base
from modalities.base import Arrays, BadSample, Files, Meta, Raw
from modalities.libraries import load
from modalities.video.frames import TICKS, Timeline, read_timeline, stream_frames, to_rgb
from modalities.video.probe import EXTENSIONS, probe
from modalities.video.schema import NO_VIDEO, TOO_LARGE
from modalities.video.writer import LOSSLESS_RGB, lossy, write_rgb


def decode(
    files: Files,
    *,
    max_frames: int | None = None,
    choose: Callable[[NDArray[np.float64]], NDArray[np.int64]] | None = None,
) -> Arrays:
    """The video member as `frames` (t, h, w, 3) uint8, `times` (t,) float64 s, `num_frames` () int64.

    All frames when they fit `base.MAX_DECODED_BYTES` and `max_frames`; else as many as fit, evenly spaced,
    each from the middle of its share. `num_frames` counts what the file holds: more than `len(frames)` says
    that this is a sample. RGB, 8 bits, turned for display. Times are the container's, in whole microseconds.
    `choose` names the frames itself: from the times of all of them, rising indices.
    BadSample: the reasons of `probe`, and "corrupt" for what does not decode.
    """
    raw = member(files)
    meta = probe(raw)
    timeline = read_timeline(raw, meta)
    picks = pick(len(timeline.times), timeline.height * timeline.width * 3, max_frames)
    if choose is not None:
        picks = choose(timeline.times)
        base.check_decoded("frames", (len(picks), timeline.height, timeline.width, 3), 1)
    frames = _decord(raw, timeline, picks) if _suits_decord(meta, timeline) else None
    if frames is None:
        return _pyav(raw, meta, timeline, picks)
    return _arrays(frames, timeline.times[picks], len(timeline.times))


def sample(files: Files, *, num: int = 32) -> Arrays:
    """`decode` of at most `num` evenly spaced frames, enough for quality, fingerprint, preview, prepare."""
    return decode(files, max_frames=num)


def member(files: Files) -> Raw:
    """The one member that holds a video."""
    found = [name for name in EXTENSIONS if name in files]
    if len(found) != 1:
        raise BadSample(NO_VIDEO, f"want one of {EXTENSIONS} among the members, got {sorted(files)}")
    return Raw(name=f"video.{found[0]}", content=files[found[0]])


def pick(num_frames: int, frame_bytes: int, max_frames: int | None) -> NDArray[np.int64]:
    """Indices of the frames to decode: all, or the middles of equal shares."""
    if max_frames is not None and max_frames < 1:
        raise ValueError(f"max_frames must be at least 1, got {max_frames}")
    fit = base.MAX_DECODED_BYTES // frame_bytes
    if fit < 1:
        raise BadSample(TOO_LARGE, f"one frame is {frame_bytes:,} bytes, over {base.MAX_DECODED_BYTES:,}")
    num = min(num_frames, fit, max_frames or num_frames)
    return (2 * np.arange(num, dtype=np.int64) + 1) * num_frames // (2 * num)


def _suits_decord(meta: Meta, timeline: Timeline) -> bool:
    """Whether decord reads it rightly; PyAV reads the rest.

    decord2 3.4 garbles frames turned by 90 degrees, ignores mirroring, and crashes the process where fewer
    packets can be read than the header promises.
    """
    upright = meta["rotation"] == 0 and not meta["mirrored"]
    complete = meta["num_frames"] in (None, len(timeline.times))
    return upright and complete and (timeline.seekable or meta["container"] == "avi")


def _decord(raw: Raw, timeline: Timeline, picks: NDArray[np.int64]) -> NDArray[np.uint8] | None:
    """(t, h, w, 3), or None where decord fails or counts other frames than there are packets."""
    load("decord")
    import decord

    try:
        reader = decord.VideoReader(BytesIO(raw.read()), num_threads=1)
        if len(reader) != len(timeline.times):
            return None
        frames: NDArray[np.uint8] = reader.get_batch(picks).asnumpy()
    except (decord.DECORDError, RuntimeError, AssertionError):
        return None
    return frames if frames.shape == (len(picks), timeline.height, timeline.width, 3) else None


def _pyav(raw: Raw, meta: Meta, timeline: Timeline, picks: NDArray[np.int64]) -> Arrays:
    wanted, frames, times, count = set(picks.tolist()), [], [], 0
    for index, (seconds, frame) in enumerate(stream_frames(raw, meta)):
        count = index + 1
        if index in wanted:
            frames.append(to_rgb(frame, meta))
            dated = timeline.seekable and seconds is not None
            times.append(seconds if dated else timeline.times[index])
        if index >= picks[-1]:
            break
    if not frames:
        raise BadSample(NO_VIDEO, f"{raw.name} has packets, but no frame decodes")
    if count <= picks[-1]:  # packets without a picture of their own, as VP8 has them: this is the true count
        return _arrays(np.stack(frames), np.array(times), count)
    return _arrays(np.stack(frames), np.array(times), len(timeline.times))


def _arrays(frames: NDArray[np.uint8], times: NDArray[np.float64], num_frames: int) -> Arrays:
    return {"frames": frames, "times": times, "num_frames": np.array(num_frames, np.int64)}


def encode(arrays: Arrays) -> Files:
    """Lossless H.264 (RGB, qp 0) in MP4 with a time base of 1 us; the same bytes for the same arrays.

    Lossy only if `transforms["transcode"]` asked for it (fields `codec`, `crf`). Neither sound nor rotation:
    `decode` has dropped the one and applied the other. ValueError for a sample of a longer video
    (`num_frames` > t), because it would pass for the whole; `transforms["frames"]` declares the loss.
    """
    frames, times = checked(arrays)
    num_frames = int(arrays.get("num_frames", np.array(len(frames))))
    if num_frames != len(frames):
        raise ValueError(
            f"frames are {len(frames)} of {num_frames}, and writing them would lose the rest: cut the video"
            ' into clips, or declare the loss with transforms["frames"]'
        )
    codec = LOSSLESS_RGB
    if "codec" in arrays:
        codec = lossy(str(arrays["codec"]), int(arrays["crf"]))
    return {codec.extension: write_rgb(zip(times.tolist(), frames, strict=True), codec)}


def checked(arrays: Arrays) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """`frames` and `times`, or ValueError that says how they should look."""
    frames, times = arrays["frames"], arrays["times"]
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or 0 in frames.shape:
        raise ValueError(f"frames must be (t, h, w, 3) uint8, got {frames.shape} {frames.dtype}")
    if times.shape != frames.shape[:1] or not np.isfinite(times).all():
        raise ValueError(f"times must be ({len(frames)},) finite seconds, got {times.shape}")
    if times[0] < 0:
        raise ValueError(f"times must not be negative, the first is {times[0]}")
    if (np.diff(np.round(times * TICKS)) < 1).any():
        raise ValueError("times must rise by a microsecond or more from frame to frame")
    return frames, times
