"""PCD, against files that Open3D and pypcd4 wrote."""

from pathlib import Path

import numpy as np
import open3d as o3d
import pypcd4
import pytest

from modalities.base import BadSample, Raw
from modalities.pointcloud.codec import decode, pack
from modalities.pointcloud.probe import probe


def read(data: bytes) -> dict[str, np.ndarray]:
    raw = Raw(name="a.pcd", content=data)
    return dict(decode(pack(raw, probe(raw))))


@pytest.mark.parametrize("options", [{"write_ascii": True}, {}, {"compressed": True}])
def test_reads_what_open3d_writes(tmp_path: Path, options: dict[str, bool]) -> None:
    rng = np.random.default_rng(0)
    # Repeated rows, so that the compressed file has long and overlapping references.
    points = np.repeat(rng.normal(0, 10, (40, 3)).astype(np.float32), 50, axis=0)
    cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(points))
    cloud.colors = o3d.utility.Vector3dVector(np.repeat(rng.integers(0, 256, (40, 3)), 50, axis=0) / 255)
    cloud.normals = o3d.utility.Vector3dVector(np.repeat(rng.normal(size=(40, 3)), 50, axis=0))
    path = tmp_path / "a.pcd"
    assert o3d.io.write_point_cloud(str(path), cloud, **options)
    ours, theirs = read(path.read_bytes()), o3d.io.read_point_cloud(str(path))
    assert ours["points"].dtype == np.float32  # the header says so; Open3D keeps what ascii rows say beyond
    np.testing.assert_array_equal(ours["points"], np.asarray(theirs.points, np.float32))
    np.testing.assert_array_equal(ours["normals"], np.asarray(theirs.normals, np.float32))
    assert ours["colors"].dtype == np.uint8
    np.testing.assert_array_equal(ours["colors"], np.rint(np.asarray(theirs.colors) * 255))


@pytest.mark.parametrize(
    "encoding", [e for e in pypcd4.Encoding if e.value in ("ascii", "binary", "binary_compressed")]
)
def test_reads_every_type_that_pypcd4_writes(tmp_path: Path, encoding: pypcd4.Encoding) -> None:
    rng = np.random.default_rng(1)
    names = ("x", "y", "z", "intensity", "ring", "label", "t")
    types = (np.float64, np.float64, np.float64, np.float32, np.uint16, np.int8, np.uint64)
    columns = [rng.normal(size=300).astype(t) if t in (np.float32, np.float64) else np.arange(300).astype(t)
               for t in types]  # fmt: skip
    columns[5] = (np.arange(300) % 256 - 128).astype(np.int8)
    columns[6] = np.uint64(1_700_000_000_123_456_789) + np.arange(300, dtype=np.uint64)
    path = tmp_path / "a.pcd"
    pypcd4.PointCloud.from_points(columns, names, types).save(path, encoding=encoding)
    theirs, ours = pypcd4.PointCloud.from_path(path), read(path.read_bytes())
    for i, name in enumerate(names[3:]):
        np.testing.assert_array_equal(ours[name], theirs.pc_data[name])
        if encoding != pypcd4.Encoding.ASCII:  # its writer rounds what it prints
            np.testing.assert_array_equal(ours[name], columns[i + 3])
        assert ours[name].dtype == types[i + 3]
    np.testing.assert_array_equal(ours["points"][:, 1], theirs.pc_data["y"])


HEADER = (
    b"VERSION .7\nFIELDS x y z _ f\nSIZE 4 4 4 1 4\nTYPE F F F U F\nCOUNT 1 1 1 3 2\nWIDTH %d\nHEIGHT %d\n"
)


def test_padding_is_dropped_and_counted_fields_stay_wide() -> None:
    row = np.dtype([("xyz", "<f4", 3), ("pad", "u1", 3), ("f", "<f4", 2)])
    rows = np.zeros(6, row)
    rows["xyz"], rows["f"] = np.arange(18).reshape(6, 3), np.arange(12).reshape(6, 2)
    data = HEADER % (3, 2) + b"VIEWPOINT 1 2 3 1 0 0 0\nPOINTS 6\nDATA binary\n" + rows.tobytes()
    fields = read(data)
    assert set(fields) == {"points", "f", "viewpoint"}
    np.testing.assert_array_equal(fields["f"], np.arange(12).reshape(6, 2))
    np.testing.assert_array_equal(fields["viewpoint"], [1, 2, 3, 1, 0, 0, 0])
    meta = probe(Raw(name="a.pcd", content=data))
    assert (meta["width"], meta["height"], meta["num_points"], meta["fields"]) == (3, 2, 6, ["points", "f"])


def test_packed_colours_are_the_same_as_float_or_integer() -> None:
    header = b"FIELDS x y z rgb\nSIZE 4 4 4 4\nTYPE F F F %s\nWIDTH 1\nHEIGHT 1\nPOINTS 1\nDATA ascii\n"
    packed = (200 << 16) + (100 << 8) + 50
    as_float = np.array([packed], "<u4").view("<f4")[0]
    for kind, text in ((b"U", str(packed)), (b"F", str(packed)), (b"F", repr(float(as_float)))):
        fields = read(header % kind + f"1 2 3 {text}\n".encode())
        np.testing.assert_array_equal(fields["colors"], [[200, 100, 50]])


@pytest.mark.parametrize(
    ("reason", "data"),
    [
        ("truncated", HEADER % (10**8, 1) + b"POINTS 100000000\nDATA binary\n" + bytes(1000)),
        ("truncated", HEADER % (10**12, 1) + b"POINTS 1000000000000\nDATA ascii\n1 2 3 0 0 0 1 1\n"),
        ("too-large", HEADER % (10**8, 1) + b"POINTS 100000000\nDATA binary_compressed\n" + bytes(1000)),
        ("corrupt", HEADER % (1, 1) + b"DATA binary_compressed\n\x08\0\0\0\xff\xff\xff\0" + bytes(8)),
        ("corrupt", HEADER % (2, 2) + b"POINTS 5\nDATA binary\n" + bytes(1000)),
        ("corrupt", b"FIELDS x y z\nSIZE 4 4\nTYPE F F F\nWIDTH 1\nHEIGHT 1\nDATA ascii\n1 2 3\n"),
        ("corrupt", b"FIELDS x y z\nSIZE 4 4 4\nTYPE F F O\nWIDTH 1\nHEIGHT 1\nDATA ascii\n1 2 3\n"),
        ("corrupt", b"VERSION .7\nDATA ascii\n1 2 3\n"),
        ("truncated", b"VERSION .7\nFIELDS x y z\n"),
        ("empty", HEADER % (0, 1) + b"POINTS 0\nDATA binary\n"),
        ("unsupported", HEADER % (1, 1) + b"POINTS 1\nDATA binary_zstd\n" + bytes(100)),
    ],
)  # fmt: skip
def test_refuses(reason: str, data: bytes) -> None:
    with pytest.raises(BadSample) as refusal:
        read(data)
    assert refusal.value.reason == reason


def test_a_reference_out_of_the_block_is_refused() -> None:
    header = b"FIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nWIDTH 1\nHEIGHT 1\nDATA binary_compressed\n"
    body = b"\x20\xff\x20\xff"  # the first bytes refer to what is not there yet
    with pytest.raises(BadSample, match="reference leaves the block"):
        read(header + np.array([4, 12], "<u4").tobytes() + body)
