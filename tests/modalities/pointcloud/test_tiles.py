"""Tiles hold every point once, with everything the source says about it."""

import json
import tracemalloc
from io import BytesIO
from pathlib import Path

import laspy
import numpy as np
import pytest

from modalities.base import Raw
from modalities.pointcloud import MODALITY
from modalities.pointcloud.codec import decode, same
from modalities.pointcloud.schema import GLOBAL, select

TILES = MODALITY.cuts["tiles"]


def load(path: Path) -> tuple[Raw, dict, dict[str, np.ndarray]]:
    raw = Raw(name=path.name, content=path)
    meta = MODALITY.probe(raw)
    return raw, dict(meta), dict(MODALITY.decode(MODALITY.pack(raw, meta)))


def ordered(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return select(arrays, np.lexsort((arrays.get("gps_time", arrays["points"][:, 0]), *arrays["points"].T)))


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("autzen_trim.laz", 250.0),
        ("simple.copc.laz", 1000.0),
        ("simple.las", 900.0),
        ("kitti_000008.bin", 15.0),
    ],
)
def test_tiles_of_a_real_scan_put_together_are_the_scan(shared_data: Path, name: str, size: float) -> None:
    raw, meta, whole = load(shared_data / "points" / name)
    pieces = TILES.plan(raw, meta, size=size)
    assert len(pieces) > 3
    assert len({piece.suffix for piece in pieces}) == len(pieces)
    parts = []
    for piece in pieces:
        spec = json.loads(json.dumps(piece.spec))
        files = TILES.extract(raw, meta, spec, size=size)
        part = decode(files)
        about = json.loads(files["tile.json"])
        low, high = np.array(about["bounds"])
        assert np.all((part["points"] >= low) & (part["points"][:, [0, 1, 2]] <= high))
        assert np.all(part["points"][:, :2] < high[:2])
        assert about["num_points"] == len(part["points"])
        assert sum(map(len, files.values())) < 3 * piece.num_bytes + 4096
        if meta["format"] in ("las", "laz", "copc"):
            assert "laz" in files
        assert all(np.array_equal(part[field], whole[field]) for field in GLOBAL if field in whole)
        parts.append(part)
    merged = {f: whole[f] if f in GLOBAL else np.concatenate([p[f] for p in parts]) for f in whole}
    assert same(ordered(merged), ordered(whole))


def test_a_tile_with_overlap_holds_the_points_around_it(shared_data: Path) -> None:
    raw, meta, whole = load(shared_data / "points" / "autzen_trim.laz")
    size, overlap = 300.0, 40.0
    for piece in TILES.plan(raw, meta, size=size, overlap=overlap):
        files = TILES.extract(raw, meta, piece.spec, size=size, overlap=overlap)
        low, high = np.array(json.loads(files["tile.json"])["bounds"])[:, :2]
        xy = whole["points"][:, :2]
        # The ends are open below and closed above by at most a rounding of the sums.
        wide = ((xy >= low - overlap - 1e-6) & (xy <= high + overlap + 1e-6)).all(axis=1).sum()
        narrow = ((xy >= low - overlap + 1e-6) & (xy <= high + overlap - 1e-6)).all(axis=1).sum()
        assert narrow <= len(decode(files)["points"]) <= wide


def test_sparse_tiles_are_left_out(shared_data: Path) -> None:
    raw, meta, whole = load(shared_data / "points" / "autzen_trim.laz")
    cells, counts = np.unique(np.floor(whole["points"][:, :2] / 200), axis=0, return_counts=True)
    kept = TILES.plan(raw, meta, size=200.0, min_points=5000)
    assert [piece.spec["cell"] for piece in kept] == cells[counts >= 5000].astype(int).tolist()
    assert 0 < len(kept) < len(cells)


def test_points_without_coordinates_belong_to_no_tile() -> None:
    points = np.array([[0.5, 0.5, 0], [np.nan, 0, 0], [1.5, 0.5, np.inf], [-0.5, 0.5, 1]], np.float32)
    out = BytesIO()
    np.save(out, points)
    raw = Raw(name="a.npy", content=out.getvalue())
    meta = MODALITY.probe(raw)
    pieces = TILES.plan(raw, meta, size=1.0)
    assert [(piece.suffix, piece.spec["num_points"]) for piece in pieces] == [
        ("x-00001_y000000", 1),
        ("x000000_y000000", 1),
    ]
    files = TILES.extract(raw, meta, pieces[0].spec, size=1.0)
    np.testing.assert_array_equal(decode(files)["points"], [[-0.5, 0.5, 1]])


def test_a_cloud_larger_than_what_is_held_is_tiled(tmp_path: Path) -> None:
    n, path = 2_000_000, tmp_path / "big.las"
    header = laspy.LasHeader(point_format=0, version="1.2")
    header.scales = (0.01, 0.01, 0.01)
    rng = np.random.default_rng(0)
    with laspy.open(path, "w", header=header) as writer:
        for _ in range(4):
            record = laspy.ScaleAwarePointRecord.zeros(n // 4, header=header)
            record.x, record.y = rng.uniform(0, 100, (2, n // 4))
            writer.write_points(record)
    raw = Raw(name="big.las", content=path)
    meta = MODALITY.probe(raw)
    tracemalloc.start()
    pieces = TILES.plan(raw, meta, size=25.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sum(piece.spec["num_points"] for piece in pieces) == n
    assert peak < path.stat().st_size / 2


def test_unusable_options_say_what_was_wanted(shared_data: Path) -> None:
    raw, meta, _ = load(shared_data / "points" / "simple.las")
    with pytest.raises(ValueError, match="size must be > 0"):
        TILES.plan(raw, meta, size=0.0)
    with pytest.raises(ValueError, match="overlap in"):
        TILES.plan(raw, meta, size=1.0, overlap=0.5)
