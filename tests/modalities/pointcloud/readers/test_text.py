"""Tables as text, against numpy's own reading and the values they were written from."""

from pathlib import Path

import numpy as np
import open3d as o3d
import pytest

from modalities.base import BadSample, Raw
from modalities.pointcloud.codec import decode, pack
from modalities.pointcloud.probe import probe


def read(text: str | bytes, name: str = "a.xyz") -> dict[str, np.ndarray]:
    raw = Raw(name=name, content=text.encode() if isinstance(text, str) else text)
    meta = probe(raw)
    fields = dict(decode(pack(raw, meta)))
    assert len(fields["points"]) == meta["num_points"]
    return fields


@pytest.mark.parametrize("delimiter", [" ", ",", ";", "\t", ", ", "   "])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("name", ["a.xyz", "a.csv", "A.TXT"])
def test_usual_delimiters_and_line_ends_read_alike(delimiter: str, end: str, name: str) -> None:
    rows = np.random.default_rng(0).normal(0, 1e6, (20, 3))
    text = end.join(delimiter.join(repr(float(v)) for v in row) for row in rows)
    np.testing.assert_array_equal(read(text, name)["points"], rows)
    np.testing.assert_array_equal(read(text + end + end, name)["points"], rows)


def test_names_in_the_first_line_name_the_fields() -> None:
    fields = read("X,Y,Z,Intensity,R,G,B,Classification\n1,2,3,0.5,255,0,7,2\n4,5,6,0.25,1,2,3,9\n", "a.csv")
    assert {name: str(v.dtype) for name, v in fields.items()} == {
        "points": "float64", "intensity": "float64", "colors": "uint8", "classification": "int64",
    }  # fmt: skip
    np.testing.assert_array_equal(fields["colors"], [[255, 0, 7], [1, 2, 3]])
    np.testing.assert_array_equal(fields["classification"], [2, 9])


@pytest.mark.parametrize(
    "first", ["//X Y Z nx ny nz", "# x y z nx ny nz", "\ufeffx y z nx ny nz", "# made by hand", "2"]
)
def test_comments_counts_and_byte_order_marks_are_understood(first: str) -> None:
    fields = read(f"{first}\n1 2 3 0 0 1\n4 5 6 0 1 0\n")
    np.testing.assert_array_equal(fields["normals"], [[0, 0, 1], [0, 1, 0]])


def test_nameless_columns_are_told_by_their_values() -> None:
    assert set(read("1 2 3 10\n1 2 3 11\n")) == {"points", "intensity"}
    assert set(read("1 2 3 10 20 255\n")) == {"points", "colors"}
    assert set(read("1 2 3 -100 10 20 255\n")) == {"points", "intensity", "colors"}
    assert set(read("1 2 3 10 20 255 4\n")) == {"points", "colors", "label"}
    assert set(read("1 2 3 7.5 -8 9\n")) == {"points", "column_3", "column_4", "column_5"}


def test_reads_what_open3d_writes(tmp_path: Path) -> None:
    cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(np.random.default_rng(0).normal(size=(90, 3))))
    path = tmp_path / "a.xyz"
    assert o3d.io.write_point_cloud(str(path), cloud)
    ours, theirs = read(path.read_bytes()), o3d.io.read_point_cloud(str(path))
    np.testing.assert_array_equal(ours["points"], np.asarray(theirs.points))


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        ("unknown-format", "a photograph of a street\n"),
        ("unknown-format", "1 2\n3 4\n"),
        ("unknown-format", "3\nwater\nO 0 0 0\nH 1 0 0\nH 0 1 0\n"),
        ("unknown-format", "1 2 3\n\0\0\0\0\n"),
        ("corrupt", "1 2 3\n1 2\n"),
        ("corrupt", "x y z\n1 2 3 4\n"),
        ("corrupt", "1 2 3\n" * 400 + "1 2 fish\n"),
        ("empty", ""),
    ],
)
def test_refuses(reason: str, text: str) -> None:
    with pytest.raises(BadSample) as refusal:
        read(text)
    assert refusal.value.reason == reason
