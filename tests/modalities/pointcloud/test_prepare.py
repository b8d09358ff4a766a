"""Model-ready arrays: fixed shapes, exact geometry, seeded augmentation."""

from pathlib import Path

import numpy as np
import pytest

from modalities.base import BadSample, Raw
from modalities.pointcloud import MODALITY
from modalities.pointcloud.prepare import farthest


def cloud(n: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(n)
    return {
        "points": rng.normal(size=(n, 3)) * [5, 3, 1] + 100,
        "colors": rng.integers(0, 65536, (n, 3)).astype(np.uint16),
        "intensity": rng.random(n).astype(np.float32),
        "classification": rng.integers(0, 7, n, np.uint8),
    }


@pytest.mark.parametrize("n", [1, 3, 128, 129, 5000])
@pytest.mark.parametrize("seed", [None, 3])
def test_shapes_and_types_are_fixed(n: int, seed: int | None) -> None:
    out = MODALITY.prepare(
        cloud(n), num_points=128, rng=None if seed is None else np.random.default_rng(seed)
    )
    assert {name: (v.shape, str(v.dtype)) for name, v in out.items()} == {
        "points": ((128, 3), "float32"),
        "features": ((128, 5), "float32"),
        "segmentation": ((128,), "int64"),
    }
    assert all(np.isfinite(v).all() for v in out.values())


def test_without_rng_the_cloud_fills_the_unit_ball_unturned() -> None:
    arrays = cloud(400)
    out = MODALITY.prepare(arrays, num_points=400)
    assert np.linalg.norm(out["points"], axis=1).max() == pytest.approx(1, abs=1e-6)
    source = arrays["points"]
    middle = (source.min(axis=0) + source.max(axis=0)) / 2
    radius = np.linalg.norm(source - middle, axis=1).max()
    np.testing.assert_allclose(out["points"], (source - middle) / radius, atol=1e-6)
    height, intensity, rgb = np.split(out["features"], [1, 2], axis=1)
    np.testing.assert_allclose(height[:, 0], (source[:, 2] - source[:, 2].min()) / radius, atol=1e-6)
    np.testing.assert_array_equal(intensity[:, 0], arrays["intensity"])
    np.testing.assert_allclose(rgb, arrays["colors"] / 65535, atol=1e-4)
    np.testing.assert_array_equal(out["segmentation"], arrays["classification"])


def test_features_keep_their_order_and_missing_ones_are_zero() -> None:
    arrays = {"points": cloud(50)["points"], "normals": np.tile(np.float32([0, 0, 1]), (50, 1))}
    out = MODALITY.prepare(arrays, num_points=50, features=("rgb", "normals"))
    assert set(out) == {"points", "features"}
    np.testing.assert_array_equal(out["features"], np.tile([0, 0, 0, 0, 0, 1], (50, 1)))


def test_augmentation_turns_about_z_only_and_follows_the_seed() -> None:
    arrays = cloud(300)
    options = {"num_points": 300, "jitter": 0.0, "dropout": 0.0, "scale": (1.0, 1.0)}
    one, again, other = (MODALITY.prepare(arrays, rng=np.random.default_rng(s), **options) for s in (1, 1, 2))
    np.testing.assert_array_equal(one["points"], again["points"])
    assert not np.array_equal(one["points"], other["points"])
    for out in (one, other):
        np.testing.assert_allclose(np.linalg.norm(out["points"], axis=1).max(), 1, atol=1e-6)
        order = np.argsort(out["points"][:, 2])
        plain = MODALITY.prepare(arrays, num_points=300)
        reference = np.argsort(plain["points"][:, 2])
        np.testing.assert_array_equal(out["segmentation"][order], plain["segmentation"][reference])
        np.testing.assert_allclose(
            np.hypot(*out["points"][order, :2].T), np.hypot(*plain["points"][reference, :2].T), atol=1e-5
        )


def test_dropout_repeats_the_first_point_and_leaves_labels_with_their_points() -> None:
    arrays = cloud(300)
    arrays["classification"] = (arrays["points"][:, 2] > 100).astype(np.uint8)
    out = MODALITY.prepare(
        arrays, num_points=300, rng=np.random.default_rng(5), dropout=0.9, jitter=0, scale=(1, 1)
    )
    same = (out["points"] == out["points"][0]).all(axis=1)
    assert same.sum() > 5
    assert len(set(out["segmentation"][same])) == 1
    low, high = (out["points"][out["segmentation"] == label, 2] for label in (0, 1))
    assert low.max() < high.min()


def test_farthest_points_cover_better_than_a_stride() -> None:
    rng = np.random.default_rng(0)
    dense = np.concatenate([rng.normal(0, 0.01, (400, 3)), rng.uniform(-1, 1, (100, 3))])
    index = farthest(dense, 64)
    assert len(set(index.tolist())) == 64

    def hole(rows: np.ndarray) -> float:
        return float(np.linalg.norm(dense[:, None] - dense[rows][None], axis=2).min(axis=1).max())

    assert hole(index) < 0.6 * hole(np.arange(0, 500, 8))


def test_points_without_coordinates_are_dropped() -> None:
    arrays = cloud(20)
    arrays["points"][3] = np.nan
    assert np.isfinite(MODALITY.prepare(arrays, num_points=64)["points"]).all()
    with pytest.raises(BadSample, match="empty"):
        MODALITY.prepare({"points": np.full((3, 3), np.inf)})


def test_unknown_features_are_named() -> None:
    with pytest.raises(ValueError, match="speed"):
        MODALITY.prepare(cloud(5), features=("speed",))


def test_every_real_scan_is_ready_for_a_model(shared_data: Path) -> None:
    for path in sorted((shared_data / "points").iterdir()):
        raw = Raw(name=path.name, content=path)
        arrays = MODALITY.decode(MODALITY.pack(raw, MODALITY.probe(raw)))
        out = MODALITY.prepare(arrays, num_points=256, rng=np.random.default_rng(0))
        assert out["features"].shape == (256, 5)
        assert 0 <= out["features"].min() <= out["features"].max() <= 2.6
        assert ("segmentation" in out) == (raw.filename.startswith(("simple", "autzen")))
