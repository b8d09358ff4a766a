"""Arrays survive packing bit for bit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from modalities.base import BadSample
from modalities.pointcloud import MODALITY
from modalities.pointcloud.codec import decode, encode, npy_bytes, same

COLUMN_TYPES = st.sampled_from(["u1", "i1", "u2", "i4", "i8", "u8", "f4", "f8", "?"])


@st.composite
def clouds(draw: st.DrawFn) -> dict[str, np.ndarray]:
    n = draw(st.integers(1, 20))
    arrays = {"points": draw(hnp.arrays(draw(st.sampled_from(["f4", "f8"])), (n, 3)))}
    for name in draw(st.sets(st.sampled_from(["intensity", "colors", "ring", "gps_time", "normals", "f"]))):
        shape = (n, 3) if name in ("colors", "normals") else (n,)
        arrays[name] = draw(hnp.arrays(draw(COLUMN_TYPES), shape))
    if draw(st.booleans()):
        arrays["crs"] = np.array("EPSG:4978 \N{DEGREE SIGN}")
    return arrays


@given(clouds())
def test_any_fields_survive_packing(arrays: dict[str, np.ndarray]) -> None:
    files = encode(arrays)
    assert same(decode(files), arrays)
    assert encode(decode(files)) == files


def test_what_else_lies_in_the_sample_does_not_disturb() -> None:
    files = MODALITY.synth(1)
    other = {**files, "txt": b"a cube", "json": b"{}", "tile.json": b"{}"}
    assert same(decode(other), decode(files))


def test_fields_that_do_not_belong_together_are_refused() -> None:
    points = np.zeros((4, 3))
    with pytest.raises(BadSample, match="one row a point"):
        encode({"points": points, "intensity": np.zeros(3)})
    with pytest.raises(BadSample, match="wanted float32 or float64"):
        encode({"points": np.zeros((4, 3), np.int32)})
    with pytest.raises(BadSample, match="empty"):
        encode({"points": points[:0]})
    with pytest.raises(BadSample, match="unsafe"):
        encode({"points": points, "names": np.array([{}] * 4, object)})
    with pytest.raises(BadSample, match="one row a point"):
        decode({"points.npy": npy_bytes(points), "ring.npy": npy_bytes(np.zeros(3))})
    with pytest.raises(BadSample, match="no point cloud among"):
        decode({"jpg": b""})
