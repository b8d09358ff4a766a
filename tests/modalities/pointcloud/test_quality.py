"""Numbers about a cloud, on clouds whose numbers are known."""

from pathlib import Path

import numpy as np
import pytest

from modalities.base import Raw
from modalities.pointcloud import MODALITY


def plane(step: float = 0.5) -> np.ndarray:
    x, y = np.meshgrid(np.arange(0, 20, step), np.arange(0, 10, step))
    return np.stack([x.ravel(), y.ravel(), np.full(x.size, 5.0)], 1)


def test_a_regular_plane_has_the_numbers_of_its_grid() -> None:
    numbers = MODALITY.quality({"points": plane(), "intensity": np.full(800, 51, np.uint8)})
    assert numbers["num_points"] == 800
    assert numbers["spacing"] == 0.5
    assert numbers["density"] == pytest.approx(4, rel=0.1)
    assert numbers["flatness"] == pytest.approx(1)
    assert (numbers["extent_x"], numbers["extent_y"], numbers["extent_z"]) == (19.5, 9.5, 0)
    assert numbers["intensity_mean"] == pytest.approx(0.2)
    assert numbers["intensity_std"] == pytest.approx(0, abs=1e-6)


def test_gaps_duplicates_and_roundness_show() -> None:
    rng = np.random.default_rng(0)
    ball = rng.normal(size=(900, 3))
    ball[:90] = np.nan
    ball[90:171] = ball[171:252]
    numbers = MODALITY.quality({"points": ball})
    assert numbers["nan_share"] == pytest.approx(0.1)
    assert numbers["duplicate_share"] == pytest.approx(0.1)
    assert numbers["flatness"] < 0.3


@pytest.mark.parametrize(
    "points", [np.full((3, 3), np.nan), np.zeros((1, 3)), np.zeros((5, 3)), plane()[:20]]
)
def test_degenerate_clouds_have_finite_numbers(points: np.ndarray) -> None:
    assert all(np.isfinite(value) for value in MODALITY.quality({"points": points}).values())


def test_a_cloud_too_large_to_look_at_whole_has_nearly_its_own_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(5)
    cloud = np.concatenate([plane(0.05), plane(0.05)[:8000], np.full((100, 3), np.nan)])
    cloud += rng.normal(scale=1e-4, size=(1, 3))
    arrays = {"points": rng.permutation(cloud), "intensity": rng.integers(0, 256, len(cloud), np.uint8)}
    whole, mark = MODALITY.quality(arrays), MODALITY.fingerprint(arrays)
    monkeypatch.setattr("modalities.pointcloud.thinning.MOST", 20_000)
    part = MODALITY.quality(arrays)
    assert part == MODALITY.quality(arrays)
    exact = ("num_points", "nan_share", "extent_x", "extent_y", "extent_z", "density")
    assert {name: part[name] for name in exact} == {name: whole[name] for name in exact}
    for name in ("spacing", "flatness", "duplicate_share", "intensity_mean", "intensity_std"):
        assert part[name] == pytest.approx(whole[name], rel=0.1), name
    order = rng.permutation(len(cloud))
    assert MODALITY.fingerprint({"points": arrays["points"][order]}) == MODALITY.fingerprint(arrays)
    assert (MODALITY.fingerprint(arrays) ^ mark).bit_count() <= 3


def test_looking_at_a_large_cloud_takes_little_more_memory_than_the_cloud() -> None:
    import tracemalloc

    points = np.random.default_rng(0).random((2_500_000, 3))
    arrays = {"points": points, "intensity": np.zeros(len(points), np.uint16)}
    tracemalloc.start()
    try:
        MODALITY.quality(arrays)
        MODALITY.fingerprint(arrays)
        assert tracemalloc.get_traced_memory()[1] < 200 * 2**20  # of any cloud, this one or one of 1 GiB
    finally:
        tracemalloc.stop()


def test_real_scans_have_finite_numbers_of_the_same_names(shared_data: Path) -> None:
    names = set()
    for path in sorted((shared_data / "points").iterdir()):
        raw = Raw(name=path.name, content=path)
        numbers = MODALITY.quality(MODALITY.decode(MODALITY.pack(raw, MODALITY.probe(raw))))
        assert all(type(value) is float and np.isfinite(value) for value in numbers.values())
        names.add(tuple(sorted(numbers)))
    assert len(names) == 1
