"""All cases, and a good neighbour for each kind of data."""

import io
from functools import cache
from pathlib import Path

import numpy as np
from hostile import clouds, containers, images, lights, rasters, videos
from hostile.case import builders

CASES = [
    *images.cases(),
    *videos.cases(),
    *clouds.cases(),
    *rasters.cases(),
    *lights.cases(),
    *containers.cases(),
]


@cache
def _good() -> dict[str, tuple[str, str, bytes]]:
    """Modality -> the entry's name, the file, its content."""
    np.save(cube := io.BytesIO(), np.arange(60, dtype=np.uint16).reshape(4, 5, 3))
    video = builders("modalities/video/conftest.py")
    return {
        "image": ("good.jpg", "good.jpg", images.jpeg()),
        "video": ("good.mp4", "good.mp4", video.write(video.textured(3))),
        "pointcloud": ("good.xyz", "good.xyz", b"1 2 3\n4 5 6\n7 8 9.5\n"),
        "hyperspectral": ("good.npy", "good.npy", cube.getvalue()),
        "lighting": ("good/lights.npy", "good/lights.npy", _npy(np.eye(3))),
    }


def _npy(array: np.ndarray) -> bytes:
    np.save(out := io.BytesIO(), array)
    return out.getvalue()


def neighbour(modality: str, root: Path) -> set[str]:
    """Put a good object into the source; its name there."""
    name, file, content = _good()[modality]
    path = root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    if modality == "lighting":
        for frame in ("a_000.npy", "a_002.npy"):
            path.with_name(frame).write_bytes(_npy(np.ones((4, 5, 3))))
    return {name}
