"""Headerless .bin and .npy, against plain numpy and the real files' known columns."""

import io
import pickle
from pathlib import Path

import numpy as np
import pytest

from modalities.base import BadSample, Raw
from modalities.pointcloud.codec import decode, encode, pack, same
from modalities.pointcloud.probe import probe

REAL = {
    "kitti_000008.bin": ("kitti", "bin", ["points", "intensity"]),
    "nuscenes_lidar_top.pcd.bin": ("nuscenes", "pcd.bin", ["points", "intensity", "ring"]),
    "scannet_scene0000_00.bin": ("xyzrgb", "bin", ["points", "colors"]),
    "sunrgbd_000017.bin": ("xyzrgb", "bin", ["points", "colors"]),
}


def read(name: str, data: bytes | Path) -> dict[str, np.ndarray]:
    raw = Raw(name=name, content=data)
    return dict(decode(pack(raw, probe(raw))))


@pytest.mark.parametrize("name", REAL)
def test_real_files_have_the_columns_their_makers_gave_them(shared_data: Path, name: str) -> None:
    kind, extension, fields = REAL[name]
    raw = Raw(name=name, content=shared_data / "points" / name)
    meta = probe(raw)
    assert (meta["format"], meta["fields"]) == (kind, fields)
    assert "size and values fit nothing else" in meta["assumption"]
    files = pack(raw, meta)
    assert files == {extension: raw.read()}
    arrays = decode(files)
    width = sum(arrays[f].shape[1] if arrays[f].ndim == 2 else 1 for f in fields)
    rows = np.fromfile(raw.content, "<f4").reshape(-1, width)
    np.testing.assert_array_equal(np.column_stack([arrays[f] for f in fields]), rows)
    assert same(decode(encode(arrays)), arrays)


@pytest.mark.parametrize("name", REAL)
def test_a_real_file_cut_within_a_row_is_not_taken_for_another_kind(shared_data: Path, name: str) -> None:
    data = (shared_data / "points" / name).read_bytes()
    columns = {"kitti": 4, "nuscenes": 5, "xyzrgb": 6}[REAL[name][0]]
    for values in range(1, columns):
        with pytest.raises(BadSample, match="truncated"):
            probe(Raw(name=name, content=data[: -4 * values]))
    with pytest.raises(BadSample, match="truncated"):
        probe(Raw(name=name, content=data[:-1]))


def test_other_intensities_fall_to_the_default_and_say_so() -> None:
    rows = np.random.default_rng(0).uniform(0, 50, (101, 4)).astype("<f4")
    rows[:, 3] = np.arange(101) * 2.5
    meta = probe(Raw(name="a.bin", content=rows.tobytes()))
    assert (meta["format"], meta["num_points"]) == ("kitti", 101)
    assert "default" in meta["assumption"]


def test_bytes_that_are_no_coordinates_are_refused() -> None:
    noise = np.random.default_rng(0).integers(0, 256, 4800, np.uint8).tobytes()
    with pytest.raises(BadSample, match="unknown-format"):
        probe(Raw(name="weights.bin", content=noise))


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<i2"])
def test_npy_reads_as_numpy_reads_it(order: str, dtype: str) -> None:
    table = np.asarray(np.random.default_rng(0).normal(0, 100, (50, 4)), dtype, order=order)
    np.save(out := io.BytesIO(), table)
    fields = read("a.npy", out.getvalue())
    np.testing.assert_array_equal(fields["points"], table[:, :3])
    np.testing.assert_array_equal(fields["intensity"], table[:, 3])
    assert fields["points"].dtype == (np.float32 if dtype == "<f4" else np.float64)


def test_npy_records_keep_their_names() -> None:
    rows = np.zeros(5, [("X", "<f4"), ("Y", "<f4"), ("Z", "<f4"), ("ring", "u1"), ("normal", "<f4", 3)])
    rows["ring"], rows["normal"] = np.arange(5), np.arange(15).reshape(5, 3)
    np.save(out := io.BytesIO(), rows)
    fields = read("a.npy", out.getvalue())
    np.testing.assert_array_equal(fields["ring"], np.arange(5))
    np.testing.assert_array_equal(fields["normal"], np.arange(15).reshape(5, 3))


def npy(header: str, body: bytes = b"") -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + body


class _Trap:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("raise SystemExit('a pickle ran')",))


@pytest.mark.parametrize(
    ("reason", "data"),
    [
        (
            "truncated",
            npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 3), }", bytes(240)),
        ),
        ("truncated", npy("{'descr': '<f4', 'fortran_order': False, 'shape': (21, 3), }", bytes(240))),
        ("corrupt", npy("{'descr': '<f4', 'fortran_order': False, 'shape': (19, 3), }", bytes(240))),
        ("corrupt", npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 3), }")),
        ("corrupt", npy("{'descr': 'nonsense', 'fortran_order': False, 'shape': (1, 3), }")),
        ("corrupt", npy("__import__('os').abort()")),
        ("corrupt", b"\x93NUMPY"),
        ("unsafe", npy("{'descr': '|O', 'fortran_order': False, 'shape': (1, 3), }", pickle.dumps(_Trap()))),
        ("unsupported", npy("{'descr': '<f4', 'fortran_order': False, 'shape': (20, 2), }", bytes(160))),
        ("unsupported", npy("{'descr': '<U9', 'fortran_order': False, 'shape': (1, 3), }", bytes(108))),
        ("empty", npy("{'descr': '<f4', 'fortran_order': False, 'shape': (0, 3), }")),
    ],
)
def test_npy_refuses(reason: str, data: bytes) -> None:
    with pytest.raises(BadSample) as refusal:
        probe(Raw(name="a.npy", content=data))
    assert refusal.value.reason == reason


def test_npz_is_refused() -> None:
    np.savez(out := io.BytesIO(), points=np.zeros((3, 3)))
    for name in ("a.npz", "a.npy"):
        with pytest.raises(BadSample, match="unsupported"):
            probe(Raw(name=name, content=out.getvalue()))
