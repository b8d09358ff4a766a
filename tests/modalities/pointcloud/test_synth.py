"""Synthetic scans are what their labels say."""

import io

import laspy
import numpy as np
import pytest

from modalities.base import Raw
from modalities.pointcloud import MODALITY
from modalities.pointcloud.codec import decode, encode, same
from modalities.pointcloud.synth import CLASSES

SEEDS = range(2 * len(CLASSES))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_seed_gives_a_readable_labelled_scan(seed: int) -> None:
    files = MODALITY.synth(seed)
    assert files == MODALITY.synth(seed)
    assert files != MODALITY.synth(seed + 2 * len(CLASSES))
    assert files["cls"].decode() == CLASSES[seed % len(CLASSES)]
    ((extension, data),) = ((k, v) for k, v in files.items() if k != "cls")
    meta = MODALITY.probe(Raw(name=f"a.{extension}", content=data))
    assert 500 <= meta["num_points"] <= 1500
    arrays = decode(files)
    assert {"points", "normals", "intensity"} <= set(arrays)
    np.testing.assert_allclose(np.linalg.norm(arrays["normals"], axis=1), 1, atol=1e-5)
    assert same(decode(encode(arrays)), arrays)


def test_both_formats_hold_every_class() -> None:
    kinds = {(next(k for k in files if k != "cls"), files["cls"]) for files in map(MODALITY.synth, SEEDS)}
    assert len(kinds) == 2 * len(CLASSES)


def test_laz_scans_are_read_by_laspy() -> None:
    files = MODALITY.synth(len(CLASSES))
    las = laspy.read(io.BytesIO(files["laz"]))
    np.testing.assert_array_equal(np.asarray(las.xyz), decode(files)["points"])


def test_points_lie_on_the_solid() -> None:
    for seed, expected in ((0, 1.0), (2 * len(CLASSES), 1.0)):
        points = decode(MODALITY.synth(seed))["points"].astype(np.float64)
        # Algebraic sphere fit: |p|^2 = 2 c.p + d.
        fit, *_ = np.linalg.lstsq(
            np.column_stack([2 * points, np.ones(len(points))]), (points**2).sum(axis=1), rcond=None
        )
        radius = np.sqrt(fit[3] + fit[:3] @ fit[:3])
        assert 0.7 * expected <= radius <= 1.4 * expected
        assert np.abs(np.linalg.norm(points - fit[:3], axis=1) - radius).max() < 0.06
