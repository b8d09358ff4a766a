"""Pieces of real scans, a class a sensor: `python -m jobs.recipes.scans SCANS FOLDER`."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

POINTS, PIECES = 256, 160  # points of a piece, pieces of a scan
# class -> file and its columns: a car's scanner, another car's, a room, another room, an aeroplane's
SCANS = {
    "kitti": ("kitti_000008.bin", 4),
    "nuscenes": ("nuscenes_lidar_top.pcd.bin", 5),
    "scannet": ("scannet_scene0000_00.bin", 6),
    "sunrgbd": ("sunrgbd_000017.bin", 6),
    "autzen": ("autzen_trim.laz", 0),
}
Points = NDArray[np.float64]  # (n, 3)


def write(folder: Path, scans: Path = Path("../shared/data/points")) -> int:
    """Coordinates alone, as .npy, of pieces that share no point: how they lie tells which scanner it was.

    Of every piece as many points, drawn at random: their number would tell.
    """
    draw, count = np.random.default_rng(0), 0
    for label, (name, columns) in SCANS.items():
        found = list(pieces(load(scans / name, columns)))
        target = folder / label
        target.mkdir(parents=True, exist_ok=True)
        for i in draw.permutation(len(found))[:PIECES]:
            piece = draw.permutation(found[i])[:POINTS]
            np.save(target / f"{label}_{i}.npy", (piece - piece.mean(0)).astype(np.float32))
            count += 1
    return count


def load(path: Path, columns: int) -> Points:
    """Coordinates of a table of float32 rows, or of a LAZ file."""
    if columns:
        return np.fromfile(path, np.float32).reshape(-1, columns)[:, :3].astype(np.float64)
    import laspy

    scan: Any = laspy.read(path)
    return np.stack([scan.x, scan.y, scan.z], axis=1).astype(np.float64)


def pieces(points: Points) -> Iterator[Points]:
    """Halves of halves across the longest side, until fewer than twice POINTS are left."""
    if len(points) < 2 * POINTS:
        yield points
        return
    axis = int(np.ptp(points, axis=0).argmax())
    order = np.argsort(points[:, axis], kind="stable")
    yield from pieces(points[order[: len(order) // 2]])
    yield from pieces(points[order[len(order) // 2 :]])


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit("usage: python -m jobs.recipes.scans SCANS FOLDER")
    print(f"{write(Path(sys.argv[2]), Path(sys.argv[1]))} pieces in {sys.argv[2]}")
