"""Fingerprints are near for near-duplicates and far for the rest."""

from itertools import combinations
from pathlib import Path

import numpy as np

from modalities.base import Raw
from modalities.pointcloud import MODALITY
from modalities.pointcloud.synth import CLASSES

NEAR, FAR = 6, 9  # bits


def distance(one: int, other: int) -> int:
    return (one ^ other).bit_count()


def clouds() -> list[np.ndarray]:
    return [MODALITY.decode(MODALITY.synth(seed))["points"].astype(np.float64) for seed in range(24)]


def of(points: np.ndarray) -> int:
    return MODALITY.fingerprint({"points": points})


def test_order_of_points_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    for points in clouds():
        assert of(points) == of(points[rng.permutation(len(points))]) == of(points[::-1])


def test_near_duplicates_are_near() -> None:
    rng = np.random.default_rng(0)
    for points in clouds():
        print_ = of(points)
        assert 0 <= print_ < 2**64
        assert distance(print_, of(points + rng.normal(0, 0.01, points.shape))) <= NEAR
        assert distance(print_, of(points[::2])) <= NEAR
        assert distance(print_, of(points * 1000 + [6e5, 5e6, 80])) <= NEAR
        assert distance(print_, of(points.astype(np.float32))) <= NEAR


def test_other_shapes_are_far() -> None:
    prints = [of(points) for points in clouds()]
    apart = [
        distance(prints[i], prints[j])
        for i, j in combinations(range(len(prints)), 2)
        if i % len(CLASSES) != j % len(CLASSES)
    ]
    assert min(apart) >= FAR
    assert np.mean(apart) > 20


def test_one_scan_in_three_formats_has_one_fingerprint(shared_data: Path) -> None:
    prints = set()
    for name in ("simple.las", "simple.laz", "simple.copc.laz"):
        raw = Raw(name=name, content=shared_data / "points" / name)
        prints.add(MODALITY.fingerprint(MODALITY.decode(MODALITY.pack(raw, MODALITY.probe(raw)))))
    assert len(prints) == 1


def test_a_cloud_without_finite_points_has_the_zero_fingerprint() -> None:
    assert of(np.full((4, 3), np.nan)) == 0
    assert of(np.zeros((1, 3))) >= 0
