"""Files for jobs/recipes/scenes: `python -m jobs.recipes.scenes FOLDER`."""

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SCENES = 240
POINTS = 1500  # of a scene, about
CLASSES = ("floor", "box", "ball", "pillar")  # by their number, in the property `label`
SOLIDS = 4  # of a scene
HALVES = {  # class -> least and most of half its width, depth and height in metres
    1: ((0.4, 0.4, 0.15), (0.7, 0.7, 0.3)),
    2: ((0.25, 0.25, 0.25), (0.5, 0.5, 0.5)),
    3: ((0.1, 0.1, 0.5), (0.2, 0.2, 0.8)),
}
FLOOR_M = 4.0
NOISE_M = 0.01

Points = NDArray[np.float64]


def write(folder: Path) -> int:
    """A PLY a scene: x, y, z in metres and the class of each point; the number of files."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(SCENES):
        points, labels = scene(np.random.default_rng(seed))
        record = np.zeros(len(points), [(name, "<f4") for name in "xyz"] + [("label", "u1")])
        for i, name in enumerate("xyz"):
            record[name] = points[:, i]
        record["label"] = labels
        head = ["ply", "format binary_little_endian 1.0", f"element vertex {len(record)}"]
        head += [*(f"property float {name}" for name in "xyz"), "property uchar label", "end_header", ""]
        (folder / f"scene{seed:03}.ply").write_bytes("\n".join(head).encode() + record.tobytes())
    return SCENES


def scene(rng: np.random.Generator) -> tuple[Points, NDArray[np.uint8]]:
    """Points in metres and their classes: a floor with a solid in each quarter.

    Boxes are low and wide, pillars narrow and tall, balls between; height alone tells little of which.
    """
    half = FLOOR_M / 2
    floor = np.column_stack([rng.uniform(-half, half, (POINTS // 2, 2)), np.zeros(POINTS // 2)])
    parts, labels = [floor], [np.zeros(len(floor), np.uint8)]
    for corner in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
        kind = int(rng.integers(1, len(CLASSES)))
        size = rng.uniform(*HALVES[kind])
        middle = np.array(corner) * half / 2 + rng.uniform(-0.2, 0.2, 2)
        solid = surface(kind, POINTS // 2 // SOLIDS, rng) * size + (*middle, size[2])
        parts.append(solid)
        labels.append(np.full(len(solid), kind, np.uint8))
    points = np.concatenate(parts)
    return points + rng.normal(0, NOISE_M, points.shape), np.concatenate(labels)


def surface(kind: int, count: int, rng: np.random.Generator) -> Points:
    """Points on a box, ball or upright cylinder that fits between -1 and 1, turned about z."""
    if kind == 2:
        way = rng.standard_normal((count, 3))
        found: Points = way / np.linalg.norm(way, axis=1, keepdims=True)
        return found
    angle, height = rng.uniform(0, 2 * np.pi, count), rng.uniform(-1, 1, count)
    if kind == 3:
        lid = rng.random(count) < 1 / 3  # the share of top and bottom in its surface
        reach = np.where(lid, np.sqrt(rng.random(count)), 1.0)
        height = np.where(lid, np.sign(height), height)
        return np.column_stack([reach * np.cos(angle), reach * np.sin(angle), height])
    points = rng.uniform(-1, 1, (count, 3))
    points[np.arange(count), rng.integers(0, 3, count)] = rng.choice([-1.0, 1.0], count)
    turn = rng.uniform(0, np.pi / 2)
    cos, sin = np.cos(turn), np.sin(turn)
    turned: Points = points @ np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]]).T
    return turned


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m jobs.recipes.scenes FOLDER")
    print(f"{write(Path(sys.argv[1]))} scenes in {sys.argv[1]}")
