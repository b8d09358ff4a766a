"""Formats are known by their bytes, and no damage to a file does worse than a refusal."""

import json
import random
import re
import resource
import subprocess
import sys
from functools import cache
from io import BytesIO
from pathlib import Path

import laspy
import numpy as np
import open3d as o3d
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modalities.base import BadSample, Raw
from modalities.pointcloud import MODALITY
from modalities.pointcloud.codec import EXTENSIONS
from modalities.pointcloud.probe import REASONS
from modalities.pointcloud.readers import las

POINTS = np.random.default_rng(0).normal(0, 10, (60, 3))


@cache
def golden() -> dict[str, bytes]:
    """One small file of every format, by its name."""
    files: dict[str, bytes] = {}
    scan = laspy.LasData(laspy.LasHeader(point_format=7, version="1.4"))
    scan.header.scales = (0.01, 0.01, 0.01)
    scan.add_extra_dim(laspy.ExtraBytesParams("amplitude", np.float32))
    scan.x, scan.y, scan.z = POINTS.T
    for name, compress in (("a.las", False), ("a.laz", True)):
        scan.write(out := BytesIO(), do_compress=compress)
        files[name] = out.getvalue()
    table = POINTS.astype("<f4")
    np.save(out := BytesIO(), table)
    files["a.npy"] = out.getvalue()
    ring = np.arange(60, dtype="<f4")[:, None] % 32
    files["kitti.bin"] = np.hstack([table, ring / 40]).tobytes()
    files["a.pcd.bin"] = np.hstack([table, ring, ring]).tobytes()
    files["rgb.bin"] = np.hstack([table, ring, ring, ring]).tobytes()
    files["a.csv"] = b"x,y,z\n" + "\n".join(",".join(map(str, row)) for row in POINTS).encode()
    columns = "".join(f"property float {axis}\n" for axis in "xyz")
    header = f"ply\nformat %s 1.0\nelement vertex 60\n{columns}end_header\n"
    files["a.ply"] = (header % "binary_big_endian").encode() + table.astype(">f4").tobytes()
    files["b.ply"] = (header % "ascii").encode() + "\n".join(
        " ".join(map(str, row)) for row in table
    ).encode()
    return files


@cache
def compressed_pcd(folder: Path) -> bytes:
    cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(np.repeat(POINTS[:20], 3, axis=0)))
    o3d.io.write_point_cloud(str(folder / "a.pcd"), cloud, compressed=True)
    return (folder / "a.pcd").read_bytes()


def outcome(name: str, data: bytes) -> str:
    """What becomes of a file: "ok" or a documented reason; anything else is raised."""
    raw = Raw(name=name, content=data)
    try:
        arrays = MODALITY.decode(MODALITY.pack(raw, MODALITY.probe(raw)))
    except BadSample as refusal:
        return refusal.reason
    assert all(len(values) == len(arrays["points"]) for name, values in arrays.items() if name == "intensity")
    return "ok"


def test_every_format_has_a_golden_file_that_reads(tmp_path: Path) -> None:
    files = {**golden(), "a.pcd": compressed_pcd(tmp_path)}
    for name, data in files.items():
        raw = Raw(name=f"scans/{name.upper()}", content=data)
        meta = MODALITY.probe(raw)
        assert json.loads(json.dumps(meta)) == meta
        assert meta["num_points"] == len(MODALITY.decode(MODALITY.pack(raw, meta))["points"]) == 60
        path = tmp_path / name
        path.write_bytes(data)
        assert MODALITY.probe(Raw(name=name, content=path)) == meta


def test_reasons_are_kebab_case() -> None:
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", reason) for reason in REASONS)


def test_canonical_extensions_are_read_back_by_the_name_they_give(shared_data: Path) -> None:
    for path in sorted((shared_data / "points").iterdir()):
        raw = Raw(name=path.name, content=path)
        meta = MODALITY.probe(raw)
        (extension,) = MODALITY.pack(raw, meta)
        assert extension == EXTENSIONS[meta["format"]]
        assert MODALITY.probe(Raw(name=f"key.{extension}", content=path))["format"] == meta["format"]


@pytest.mark.parametrize("name", ["a.las", "a.laz", "a.ply", "a.npy"])
@pytest.mark.parametrize("suffix", ["ply", "pcd", "las", "laz", "npy", "xyz", "csv", "bin", "pcd.bin"])
def test_a_name_that_says_another_format_is_refused(name: str, suffix: str) -> None:
    if not name.endswith(suffix):
        assert outcome(f"b.{suffix}", golden()[name]) == "extension-mismatch"


@pytest.mark.parametrize("suffix", ["ply", "pcd", "las", "laz", "npy", "xyz", "csv", "bin", "pcd.bin"])
def test_nothing_is_read_from_nothing(suffix: str) -> None:
    assert outcome(f"a.{suffix}", b"") == "empty"
    assert outcome(f"a.{suffix}", b"\xff\xd8\xff\xe0 a photograph") in ("unknown-format", "truncated")


@pytest.mark.parametrize("name", [*golden(), "a.pcd"])
def test_no_prefix_of_a_file_reads_as_the_whole(name: str, tmp_path: Path) -> None:
    data = golden().get(name) or compressed_pcd(tmp_path)
    for size in {*range(0, len(data), max(1, len(data) // 150)), *range(max(0, len(data) - 30), len(data))}:
        found = outcome(name, data[:size])
        # Only formats without a count can lose whole rows or digits unseen.
        unseen = name.endswith((".bin", ".csv")) or (name == "b.ply" and size > len(data) - 15)
        assert found in REASONS or (found == "ok" and unseen), size


@settings(max_examples=500, derandomize=True)
@given(
    name=st.sampled_from([*golden(), "a.pcd"]),
    seed=st.integers(0, 2**32),
    changes=st.integers(1, 8),
    near_start=st.booleans(),
)
def test_damaged_files_read_or_are_refused(
    tmp_path_factory: pytest.TempPathFactory, name: str, seed: int, changes: int, near_start: bool
) -> None:
    folder = tmp_path_factory.getbasetemp()
    data = bytearray(golden().get(name) or compressed_pcd(folder))
    rng = random.Random(seed)
    for _ in range(changes):
        at = rng.randrange(min(len(data), 450) if near_start else len(data))
        data[at] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)])
    if rng.random() < 0.1:
        at = rng.randrange(len(data))
        data[at:at] = data[: rng.randrange(64)]
    assert outcome(name, bytes(data)) in {"ok", *REASONS}


def test_a_header_that_claims_millions_of_points_costs_no_memory(tmp_path: Path) -> None:
    limit = 1 << 20
    lying = bytearray(golden()["a.las"][:1024])
    lying[107:111] = (10**8).to_bytes(4, "little")
    lying[247:255] = (10**8).to_bytes(8, "little")
    laz = bytearray(golden()["a.laz"])
    laz[247:255] = (2 * 10**7).to_bytes(8, "little")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert outcome("a.las", bytes(lying)) == "truncated"
    assert outcome("a.laz", bytes(laz)) == "corrupt"
    assert outcome("a.ply", golden()["a.ply"].replace(b"vertex 60", b"vertex 400000000")) == "truncated"
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 16 * limit


def test_a_layer_that_claims_gigabytes_is_refused_unallocated() -> None:
    laz = bytearray(golden()["a.laz"])
    header = las.parse(Raw(name="a.laz", content=bytes(laz)))
    layer = header.points_at + 8 + header.record_bytes + 4
    laz[layer : layer + 4] = (2**31).to_bytes(4, "little")
    assert outcome("a.laz", bytes(laz)) == "corrupt"
    with pytest.raises(BadSample, match="reaches over its table"):
        MODALITY.probe(Raw(name="a.laz", content=bytes(laz)))


def test_importing_the_modality_loads_no_heavy_library() -> None:
    heavy = ("open3d", "laspy", "scipy", "PIL")
    code = f"import sys, modalities.pointcloud; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
