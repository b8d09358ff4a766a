"""Geometry, against brute force and shapes whose answer is known."""

import numpy as np
import pytest

from modalities.pointcloud import MODALITY

TRANSFORMS = MODALITY.transforms


def cloud(n: int = 2000, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "points": rng.uniform(-2, 2, (n, 3)) + 1e5,
        "colors": rng.integers(0, 256, (n, 3), np.uint8),
        "classification": rng.integers(0, 5, n, np.uint8),
        "intensity": rng.random(n).astype(np.float32),
        "scale": np.full(3, 0.01),
        "crs": np.array("EPSG:32614"),
    }


@pytest.mark.parametrize("size", [0.5, 1e-6])
def test_voxels_keep_their_first_point_with_all_its_fields(size: float) -> None:
    arrays = cloud()
    out = TRANSFORMS["voxel"](arrays, size=size)
    seen: dict[tuple[float, ...], int] = {}
    for i, cell in enumerate(np.floor(arrays["points"] / size)):
        seen.setdefault(tuple(cell), i)
    rows = list(seen.values())
    for name in ("points", "colors", "classification", "intensity"):
        np.testing.assert_array_equal(out[name], arrays[name][rows])
    assert str(out["crs"]) == "EPSG:32614"


def test_voxel_means_are_those_of_open3d() -> None:
    arrays = cloud()
    out = TRANSFORMS["voxel"](arrays, size=0.8, keep="mean")
    cells = np.floor(arrays["points"] / 0.8)
    for point, color, count, label in zip(
        out["points"], out["colors"], out["points_per_voxel"], out["classification"], strict=True
    ):
        inside = (cells == np.floor(point / 0.8)).all(axis=1)
        assert inside.sum() == count
        np.testing.assert_allclose(point, arrays["points"][inside].mean(axis=0), rtol=0, atol=1e-9)
        np.testing.assert_array_equal(color, np.rint(arrays["colors"][inside].mean(axis=0)))
        assert label == arrays["classification"][inside][0]


def test_outliers_go_and_nothing_else_much() -> None:
    arrays = cloud()
    arrays["points"][7] += 500
    out = TRANSFORMS["outliers"](arrays, neighbors=8, std_ratio=4.0)
    assert arrays["points"][7].tolist() not in out["points"].tolist()
    assert 0.97 * 2000 < len(out["points"]) == len(out["colors"]) < 2000


def test_normals_of_a_sphere_point_outwards_or_to_the_scanner() -> None:
    rng = np.random.default_rng(0)
    direction = rng.normal(size=(4000, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    center = np.array([6e5, 5e6, 100])  # map coordinates must not cost precision
    inner = TRANSFORMS["normals"]({"points": center + direction}, toward=center)["normals"]
    assert np.median((inner * direction).sum(axis=1)) < -0.999
    up = TRANSFORMS["normals"]({"points": center + direction})["normals"]
    assert up.dtype == np.float32
    assert np.all(up[:, 2] >= 0)


def test_crop_keeps_the_box_in_two_axes_or_three() -> None:
    arrays = cloud()
    low, high = [1e5 - 1, 1e5 - 1], [1e5 + 1, 1e5 + 0.5]
    out = TRANSFORMS["crop"](arrays, low=low, high=high)
    x, y, _ = arrays["points"].T
    inside = (x >= low[0]) & (x < high[0]) & (y >= low[1]) & (y < high[1])
    np.testing.assert_array_equal(out["classification"], arrays["classification"][inside])
    assert len(TRANSFORMS["crop"](arrays, low=[0, 0, 0], high=[1, 1, 1])["points"]) == 0
    with pytest.raises(ValueError, match="2 or 3 coordinates"):
        TRANSFORMS["crop"](arrays, low=[0], high=[1])


def test_subsample_draws_without_replacement_and_by_its_seed() -> None:
    arrays = cloud()
    one, same, other = (TRANSFORMS["subsample"](arrays, num_points=100, seed=s)["points"] for s in (1, 1, 2))
    assert len(np.unique(one, axis=0)) == 100
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)
    assert len(TRANSFORMS["subsample"](arrays, num_points=9999)["points"]) == 2000
