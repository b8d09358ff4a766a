"""A few seconds and a filmstrip, small enough for a page of many."""

from io import BytesIO

import numpy as np
from PIL import Image

from modalities.base import Arrays, Files
from modalities.video.transforms import frames as sample_frames
from modalities.video.transforms import resized, scaled
from modalities.video.writer import lossy, write_rgb

SIDE = 256  # longer side of the clip
MAX_FRAMES, FPS = 48, 12  # a longer video becomes a time lapse of four seconds
SHOTS, STRIP_HEIGHT = 6, 96


def preview(arrays: Arrays) -> Files:
    """`mp4`: H.264, at most 256 pixels and 48 frames; `png`: six frames side by side."""
    short = sample_frames(arrays, num=MAX_FRAMES)
    times = short["times"] - short["times"][0]
    if len(short["times"]) < len(arrays["times"]):
        times = np.arange(len(times)) / FPS
    h, w = short["frames"].shape[1:3]
    sides = scaled(h, w, min(1.0, SIDE / max(h, w)))
    clip = write_rgb(zip(times.tolist(), resized(short["frames"], *sides), strict=True), lossy("h264", 28))
    return {"mp4": clip, "png": filmstrip(arrays)}


def filmstrip(arrays: Arrays) -> bytes:
    """PNG of six evenly spaced frames, 96 pixels high."""
    shots = sample_frames(arrays, num=SHOTS)["frames"]
    h, w = shots.shape[1:3]
    height, width = scaled(h, w, STRIP_HEIGHT / h)
    strip = np.concatenate(list(resized(shots, height, min(width, 4 * STRIP_HEIGHT))), axis=1)
    Image.fromarray(strip).save(out := BytesIO(), "PNG")
    return out.getvalue()
