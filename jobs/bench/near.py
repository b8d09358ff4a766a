"""How well near-duplicates are found. `python -m jobs.bench.near DATA` prints Markdown.

DATA has folders images, points, hyperspectral and video of real files; without it samples are made up. Every
original is changed in the ways of its kind; a pair counts as found when its fingerprints differ in --distance
bits or fewer. Right pairs are those of an original and what was made of it, wrong ones all pairs of different
originals, changed or not. Real clouds, cubes and videos are cut into parts, so that there are enough of them;
parts of one file count as different. Pictures stand beside the phash of the package ImageHash.
"""

import argparse
import io
from collections.abc import Callable, Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

import modalities
from jobs.bench.ingest import make_jpeg
from modalities.base import Arrays, Files, Raw
from modalities.pointcloud.synth import CLASSES

MADE = 150

Print = Callable[[Any], int]
Changes = Mapping[str, Callable[[Any], Any]]


def pictures(folder: Path | None) -> Iterator[Any]:
    """As they lie there; without a folder made up, with the spectrum of natural ones."""
    from PIL import Image

    if folder is None:
        yield from (Image.open(io.BytesIO(make_jpeg(seed))) for seed in range(MADE))
        return
    for path in sorted(folder.glob("*.JPEG")):
        with Image.open(path) as image:
            yield image.convert("RGB")


def _cropped(share: float) -> Callable[[Any], Any]:
    def crop(image: Any) -> Any:
        x, y = int(image.width * share / 2), int(image.height * share / 2)
        return image.crop((x, y, image.width - x, image.height - y))

    return crop


def _saved(form: str, quality: int) -> Callable[[Any], Any]:
    def encode(image: Any) -> Any:
        from PIL import Image

        image.save(out := io.BytesIO(), form, quality=quality)
        return Image.open(out)

    return encode


def _brighter(factor: float) -> Callable[[Any], Any]:
    return lambda image: image.point(lambda value: min(255, round(value * factor)))


PICTURES: Changes = {
    "JPEG 50": _saved("JPEG", 50),
    "JPEG 20": _saved("JPEG", 20),
    "WebP 60": _saved("WEBP", 60),
    "half the size": lambda i: i.resize((i.width // 2, i.height // 2)),
    "a third, other aspect": lambda i: i.resize((i.width // 3, i.height // 4)),
    "grey": lambda i: i.convert("L"),
    "20 % brighter": _brighter(1.2),
    "20 % darker": _brighter(0.8),
    "2 % cropped": _cropped(0.02),
    "5 % cropped": _cropped(0.05),
    "10 % cropped": _cropped(0.1),
}


def print_picture(image: Any) -> int:
    """Of a JPEG file, as ingest does."""
    kind = modalities.get("image")
    image.save(out := io.BytesIO(), "JPEG", quality=92)
    raw = Raw(name="a.jpg", content=out.getvalue())
    return kind.measured({"jpg": raw.read()}, kind.probe(raw))[1]


def print_usual(image: Any) -> int:
    """ImageHash's phash: 8 x 8 of a 32 x 32 DCT."""
    import imagehash

    return int(str(imagehash.phash(image)), 16)


def made(name: str) -> Iterator[Arrays]:
    """Whole samples of a seed each; of clouds one of each solid, for two of one are near."""
    kind = modalities.get(name)
    yield from (kind.look(kind.synth(seed)) for seed in range(len(CLASSES) if name == "pointcloud" else 24))


def decoded(name: str, folder: Path) -> Iterator[Arrays]:
    kind = modalities.get(name)
    for path in sorted(folder.iterdir()):
        raw = Raw(name=path.name, content=path)
        yield kind.look(kind.pack(raw, kind.probe(raw)))


def clouds(folder: Path) -> Iterator[Arrays]:
    """Quarters of every cloud, at the medians of x and y."""
    for arrays in decoded("pointcloud", folder):
        points = arrays["points"][np.isfinite(arrays["points"]).all(axis=1)]
        halves = (points[:, :2] > np.median(points[:, :2], axis=0)) @ [1, 2]
        for part in range(4):
            if (halves == part).sum() > 500:
                yield {"points": points[halves == part]}


def _points(change: Callable[[Any, np.random.Generator], Any]) -> Callable[[Arrays], Arrays]:
    return lambda arrays: {"points": change(arrays["points"], np.random.default_rng(0))}


CLOUDS: Changes = {
    "another order": _points(lambda p, rng: rng.permutation(p)),
    "90 % of the points": _points(lambda p, rng: p[rng.random(len(p)) < 0.9]),
    "half of the points": _points(lambda p, rng: p[rng.random(len(p)) < 0.5]),
    "shaken by 0.2 % of its size": _points(
        lambda p, rng: p + rng.normal(0, 0.002 * (p - p.mean(0)).std(), p.shape)
    ),
    "other place and unit": _points(lambda p, _: 100 * (p - p.mean(axis=0)) + 5000),
    "2 % cropped": _points(
        lambda p, _: p[(np.abs(p - (p.min(0) + p.max(0)) / 2) <= 0.49 * np.ptp(p, 0)).all(1)]
    ),
}


def cubes(folder: Path) -> Iterator[Arrays]:
    """Nine parts of every cube."""
    for arrays in decoded("hyperspectral", folder):
        cube = arrays["cube"]
        rows, columns = (np.linspace(0, side, 4).astype(int) for side in cube.shape[:2])
        for i in range(3):
            for j in range(3):
                yield {"cube": cube[rows[i] : rows[i + 1], columns[j] : columns[j + 1]].astype(np.float32)}


def _cube(change: Callable[[Any, np.random.Generator], Any]) -> Callable[[Arrays], Arrays]:
    return lambda arrays: {"cube": change(arrays["cube"], np.random.default_rng(0)).astype(np.float32)}


CUBES: Changes = {
    "gain 1.2": _cube(lambda c, _: c * 1.2),
    "offset": _cube(lambda c, _: c + 0.1 * c.std()),
    "noise of 2 %": _cube(lambda c, rng: c + rng.normal(0, 0.02 * c.std(), c.shape)),
    "twice as fine": _cube(lambda c, _: c.repeat(2, 0).repeat(2, 1)),
    "every other pixel": _cube(lambda c, _: c[::2, ::2]),
    "2 % cropped": _cube(lambda c, _: c[max(1, len(c) // 100) : -max(1, len(c) // 100)]),
}


def videos(folder: Path) -> Iterator[Arrays]:
    """Thirds of every clip, up to 24 frames of each."""
    from modalities.video.codec import decode
    from modalities.video.transforms import frames, resize

    for path in sorted(folder.iterdir()):
        arrays = decode({path.suffix[1:]: path.read_bytes()}, max_frames=72)
        for part in np.array_split(np.arange(len(arrays["times"])), 3):
            if len(part) > 8:
                piece = {"frames": arrays["frames"][part], "times": arrays["times"][part]}
                yield resize(frames(piece, num=24), shorter=160)


def _transcoded(crf: int) -> Callable[[Arrays], Arrays]:
    def change(arrays: Arrays) -> Arrays:
        from modalities.video.transforms import transcode

        return transcode(arrays, crf=crf)

    return change


def _frames(change: Callable[[Any], Any]) -> Callable[[Arrays], Arrays]:
    return lambda arrays: {**arrays, "frames": np.ascontiguousarray(change(arrays["frames"]))}


def _inner(frames: Any) -> Any:
    y, x = frames.shape[1] // 40, frames.shape[2] // 40
    return frames[:, y:-y, x:-x]


VIDEOS: Changes = {
    "H.264 crf 28": _transcoded(28),
    "H.264 crf 36": _transcoded(36),
    "half the size": _frames(lambda f: f[:, ::2, ::2]),
    "20 % darker": _frames(lambda f: (f * 0.8).astype(np.uint8)),
    "every other frame": lambda a: {
        **a,
        "frames": a["frames"][::2],
        "times": a["times"][::2],
        "num_frames": np.array(len(a["times"][::2])),
    },
    "5 % cropped": _frames(_inner),
}


def print_video(arrays: Arrays) -> int:
    """Of an MP4 file, as ingest does; nearly lossless where no change asked for less."""
    from modalities.video.transforms import transcode

    kind = modalities.get("video")
    files: Files = kind.encode(arrays if "codec" in arrays else transcode(arrays, crf=12))
    [(ext, data)] = files.items()
    return kind.measured(files, kind.probe(Raw(name=f"a.{ext}", content=data)))[1]


def measure(originals: list[Any], changes: Changes, of: Print, distance: int) -> tuple[str, list[str]]:
    """Precision and recall in words, and for each change its mean distance and the share that is found."""
    groups = [[of(one), *(of(change(one)) for change in changes.values())] for one in originals]
    away = np.array([[(group[0] ^ other).bit_count() for other in group[1:]] for group in groups])
    right = sum((a ^ b).bit_count() <= distance for group in groups for a, b in combinations(group, 2))
    pairs = sum(len(group) * (len(group) - 1) // 2 for group in groups)
    flat = np.array([(number, value) for number, group in enumerate(groups) for value in group], np.uint64)
    differ = np.bitwise_count(flat[:, None, 1] ^ flat[None, :, 1])
    others = flat[:, None, 0] < flat[None, :, 0]
    wrong = int(((differ <= distance) & others).sum())
    precision = right / max(1, right + wrong)
    lines = [f"{away[:, i].mean():.1f}, {(away[:, i] <= distance).mean():.2f}" for i in range(len(changes))]
    return f"precision {precision:.3f}, recall {right / pairs:.3f}, {wrong} of {others.sum():,} wrong", lines


def main() -> None:
    """All kinds, or the one named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--distance", type=int, default=6)
    given = parser.parse_args()
    data: Path | None = given.data
    studies: list[tuple[str, Iterator[Any], Changes, Mapping[str, Print]]] = [
        ("pictures", pictures(data and data / "images"), PICTURES,
         {"ours": print_picture, "phash": print_usual}),
        ("clouds", clouds(data / "points") if data else made("pointcloud"), CLOUDS,
         {"ours": modalities.get("pointcloud").fingerprint}),
        ("cubes", cubes(data / "hyperspectral") if data else made("hyperspectral"), CUBES,
         {"ours": modalities.get("hyperspectral").fingerprint}),
        ("videos", videos(data / "video") if data else made("video"), VIDEOS, {"ours": print_video}),
    ]  # fmt: skip
    for name, found, changes, prints in studies:
        originals = list(found)
        print(f"\n{len(originals)} {name}, pairs within {given.distance} bits\n")
        columns = {who: measure(originals, changes, of, given.distance) for who, of in prints.items()}
        for who, (words, _) in columns.items():
            print(f"- {who}: {words}")
        print(f"\n| change | {' | '.join(f'{who}: bits, found' for who in columns)} |")
        print(f"|---|{'---|' * len(columns)}")
        for i, change in enumerate(changes):
            print(f"| {change} | {' | '.join(lines[i] for _, lines in columns.values())} |")


if __name__ == "__main__":
    main()
