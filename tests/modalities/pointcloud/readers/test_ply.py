"""PLY, against files that Open3D wrote and readings Open3D made."""

from pathlib import Path

import numpy as np
import open3d as o3d
import pytest

from modalities.base import BadSample, Raw
from modalities.pointcloud.codec import decode, pack
from modalities.pointcloud.probe import probe


def read(data: bytes) -> dict[str, np.ndarray]:
    raw = Raw(name="a.ply", content=data)
    return dict(decode(pack(raw, probe(raw))))


def header(encoding: str, *lines: str) -> bytes:
    return "\n".join(["ply", f"format {encoding} 1.0", *lines, "end_header", ""]).encode()


XYZ = ("property float x", "property float y", "property float z")


@pytest.mark.parametrize("ascii_rows", [False, True])
def test_reads_what_open3d_writes(tmp_path: Path, ascii_rows: bool) -> None:
    rng = np.random.default_rng(0)
    cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(rng.normal(0, 1e5, (500, 3))))
    cloud.colors = o3d.utility.Vector3dVector(rng.integers(0, 256, (500, 3)) / 255)
    cloud.normals = o3d.utility.Vector3dVector(rng.normal(size=(500, 3)))
    path = tmp_path / "a.ply"
    assert o3d.io.write_point_cloud(str(path), cloud, write_ascii=ascii_rows)
    ours, theirs = read(path.read_bytes()), o3d.io.read_point_cloud(str(path))
    assert ours["points"].dtype == np.float64
    np.testing.assert_array_equal(ours["points"], np.asarray(theirs.points))
    np.testing.assert_array_equal(ours["normals"], np.asarray(theirs.normals))
    assert ours["colors"].dtype == np.uint8
    np.testing.assert_array_equal(ours["colors"], np.rint(np.asarray(theirs.colors) * 255))


def test_reads_a_mesh_that_open3d_writes(tmp_path: Path) -> None:
    mesh = o3d.geometry.TriangleMesh.create_torus()
    path = tmp_path / "mesh.ply"
    assert o3d.io.write_triangle_mesh(str(path), mesh)
    np.testing.assert_array_equal(read(path.read_bytes())["points"], np.asarray(mesh.vertices))


@pytest.mark.parametrize(("name", "order"), [("binary_little_endian", "<"), ("binary_big_endian", ">")])
def test_both_byte_orders_give_the_same_fields(name: str, order: str) -> None:
    row = np.dtype(
        [("x", order + "f4"), ("y", order + "f4"), ("z", order + "f4"), ("s", order + "i2"), ("c", "u1")]
    )
    rows = np.zeros(9, row)
    rows["x"], rows["s"], rows["c"] = np.arange(9) / 3, np.arange(-4, 5) * 300, np.arange(9)
    lines = ("element vertex 9", *XYZ, "property short Scan_Angle", "property uchar Class")
    fields = read(header(name, *lines) + rows.tobytes())
    assert fields["points"].dtype == np.float32
    np.testing.assert_array_equal(fields["points"][:, 0], (np.arange(9) / 3).astype(np.float32))
    np.testing.assert_array_equal(fields["scan_angle"], np.arange(-4, 5) * 300)
    assert fields["scan_angle"].dtype == np.int16
    assert fields["scan_angle"].dtype.isnative
    np.testing.assert_array_equal(fields["class"], np.arange(9))


def test_elements_before_the_vertices_are_stepped_over() -> None:
    lines = ("comment made by hand", "element camera 2", "property double f", "element vertex 1", *XYZ)
    body = np.array([7.0, 8.0], "<f8").tobytes() + np.array([1, 2, 3], "<f4").tobytes()
    np.testing.assert_array_equal(read(header("binary_little_endian", *lines) + body)["points"], [[1, 2, 3]])
    np.testing.assert_array_equal(read(header("ascii", *lines) + b"7\n8\n\n1 2 3\n")["points"], [[1, 2, 3]])


def test_a_property_named_like_one_of_our_fields_is_kept_apart() -> None:
    lines = ("element vertex 3", *XYZ, "property float scale", "property float points")
    fields = read(header("ascii", *lines) + b"1 2 3 4 5\n" * 3)
    np.testing.assert_array_equal(fields["dim_scale"], [4, 4, 4])
    np.testing.assert_array_equal(fields["dim_points"], [5, 5, 5])


@pytest.mark.parametrize(
    ("reason", "data"),
    [
        ("truncated", header("binary_little_endian", "element vertex 400000000", *XYZ) + bytes(1200)),
        ("truncated", header("ascii", "element vertex 1000000000000", *XYZ) + b"1 2 3\n"),
        ("truncated", header("ascii", "element vertex 3", *XYZ) + b"1 2 3\n\n1 2 3\n"),
        ("truncated", header("binary_little_endian", "element vertex 1", *XYZ, "element face 90000000",
                             "property list uchar int vertex_indices") + bytes(12)),
        ("truncated", b"ply\nformat ascii 1.0\nelement vertex 1\n"),
        ("empty", header("ascii", "element vertex 0", *XYZ)),
        ("corrupt", header("ascii", "element vertex 1", *XYZ) + b"1 2 x\n"),
        ("corrupt", header("ascii", "element vertex 1", "property uchar a", *XYZ) + b"300 1 2 3\n"),
        ("corrupt", header("ascii", "element vertex -1", *XYZ)),
        ("corrupt", header("ascii", "property float x")),
        ("corrupt", header("ascii", "element vertex 1", "property float3 x")),
        ("unsupported", header("ascii", "element vertex 1", "property float x") + b"1\n"),
        ("unsupported", header("ascii", "element face 1", "property float x") + b"1\n"),
        ("unsupported", header("ascii", "element vertex 1", *XYZ, "property list uchar int a") + b"1 2 3\n"),
    ],
)  # fmt: skip
def test_refuses(reason: str, data: bytes) -> None:
    with pytest.raises(BadSample) as refusal:
        read(data)
    assert refusal.value.reason == reason
