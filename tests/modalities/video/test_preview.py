"""Small things a browser shows."""

from io import BytesIO
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from modalities.video.codec import sample
from modalities.video.preview import preview


@pytest.mark.parametrize("name", ["blocks.mp4", "rotated_180.mov", "pancake.mkv"])
def test_previews_play_in_browsers_and_are_small(name: str, shared_data: Path) -> None:
    path = shared_data / "video" / name
    arrays = sample({path.suffix[1:]: path.read_bytes()}, num=60)
    files = preview(arrays)
    assert set(files) == {"mp4", "png"}
    with av.open(BytesIO(files["mp4"])) as file:
        stream = file.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert max(stream.width, stream.height) <= 256
        frames = [frame.to_ndarray(format="rgb24") for frame in file.decode(stream)]
    assert len(frames) == min(48, len(arrays["frames"]))
    assert abs(float(frames[0].mean()) - float(arrays["frames"][0].mean())) < 12
    strip = Image.open(BytesIO(files["png"]))
    assert strip.height == 96
    assert len(files["png"]) + len(files["mp4"]) < 400_000


def test_a_single_tiny_frame_has_a_preview() -> None:
    arrays = {"frames": np.full((1, 3, 5, 3), 99, np.uint8), "times": np.array([3.0])}
    files = preview(arrays)
    assert Image.open(BytesIO(files["png"])).size == (160, 96)
    with av.open(BytesIO(files["mp4"])) as file:
        assert sum(1 for _ in file.decode(video=0)) == 1
