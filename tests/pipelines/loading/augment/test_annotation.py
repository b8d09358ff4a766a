"""Steps that turn what they show turn what is said of it: clouds, cubes and lit scenes."""

from typing import Any

import numpy as np
import pytest

import modalities
from pipelines.loading.augment import Chain
from pipelines.loading.order import sample_rng


def sphere(size: int = 65) -> dict[str, Any]:
    """A matte ball under one light: pixels, normals and light obey Lambert's law exactly."""
    x, y = np.meshgrid(np.linspace(-1, 1, size), np.linspace(1, -1, size))
    inside = x * x + y * y < 0.8
    z = np.sqrt(np.maximum(0, 1 - x * x - y * y))
    normals = np.where(inside[..., None], np.stack([x, y, z], axis=2), 0)
    lights = np.array([[0.48, 0.6, 0.64], [-0.6, 0.0, 0.8]])
    frames = np.maximum(np.einsum("hwk,tk->thw", normals, lights), 0)[..., None].repeat(3, axis=3)
    return {
        "frames": frames, "lights": lights, "intensity": np.ones((2, 3)), "normals": normals, "mask": inside,
        "transfer": np.array("linear"), "times": np.arange(2.0),
    }  # fmt: skip


@pytest.mark.parametrize("step", ["flip", "flip_vertical", "quarter_turns"])
def test_a_turned_ball_is_lit_by_the_turned_light(step: str) -> None:
    arrays = sphere()
    seen = set()
    for seed in range(12):
        out = Chain("lighting", [step]).apply(arrays, sample_rng(0, 0, str(seed)))
        shaded = np.maximum(np.einsum("hwk,tk->thw", out["normals"], out["lights"]), 0)
        assert np.allclose(out["frames"][..., 0], shaded, atol=1e-6)
        assert np.allclose(np.linalg.norm(out["lights"], axis=1), 1)
        assert out["mask"].sum() == arrays["mask"].sum()
        seen.add(tuple(np.round(out["lights"].ravel(), 3)))
    assert len(seen) == (4 if step == "quarter_turns" else 2)


@pytest.mark.parametrize("step", ["rotate", "flip", {"rotate": {"axis": "all"}}])
def test_normals_turn_with_their_points(step: Any) -> None:
    """On a ball a normal points where its point lies."""
    points = np.random.default_rng(0).standard_normal((500, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    points = np.concatenate([points, -points])  # symmetric, so that the middle is the origin
    cloud = {"points": points, "normals": points.astype(np.float32), "intensity": np.arange(1000)}
    for seed in range(5):
        out = Chain("pointcloud", [step]).apply(cloud, sample_rng(0, 0, str(seed)))
        assert np.allclose(out["points"], out["normals"], atol=1e-5)
        assert not np.allclose(out["points"], points) or step == "flip"
        distances = np.linalg.norm(out["points"][:500] - out["points"][500:], axis=1)
        assert np.allclose(distances, 2)


@pytest.mark.parametrize("step", ["dropout", "crop", {"sample": {"num_points": 100}}])
def test_points_that_go_take_their_fields_along(step: Any) -> None:
    rows = np.arange(400)
    cloud = {"points": np.stack([rows, rows % 7, rows % 11], axis=1).astype(np.float32), "intensity": rows}
    sizes = set()
    for seed in range(5):
        out = Chain("pointcloud", [step]).apply(cloud, sample_rng(0, 0, str(seed)))
        assert np.array_equal(out["points"][:, 0], out["intensity"])
        assert len(set(out["intensity"])) == len(out["intensity"])
        sizes.add(len(out["points"]))
    assert sizes == {100} if isinstance(step, dict) else len(sizes) > 1


def test_jitter_stays_within_its_limit() -> None:
    cloud = {"points": np.random.default_rng(0).uniform(0, 50, (300, 3))}
    out = Chain("pointcloud", [{"jitter": {"sigma": 1.0, "limit": 0.02}}]).apply(cloud, sample_rng(0, 0, "a"))
    moved = np.abs(out["points"] - cloud["points"])
    assert 0.9 < moved.max() / (0.02 * np.ptp(cloud["points"], axis=0).max()) <= 1.0001


@pytest.mark.parametrize("step", ["flip", "quarter_turns", {"crop": {"size": 5}}])
def test_classes_of_a_cube_move_with_its_spectra(step: Any) -> None:
    classes = np.arange(12 * 9).reshape(12, 9).astype(np.int32)
    cube = {"cube": np.repeat(classes[..., None], 4, axis=2).astype(np.uint16), "segmentation": classes}
    for seed in range(8):
        out = Chain("hyperspectral", [step]).apply(cube, sample_rng(0, 0, str(seed)))
        assert np.array_equal(out["cube"][..., 2], out["segmentation"])
        assert not isinstance(step, dict) or out["cube"].shape == (5, 5, 4)


def test_bands_drop_whole_and_spectra_bend_smoothly() -> None:
    cube = {"cube": np.full((6, 6, 50), 1000, np.uint16)}
    dropped = Chain("hyperspectral", [{"band_dropout": {"share": 0.4}}]).apply(cube, sample_rng(0, 0, "a"))[
        "cube"
    ]
    assert set(np.unique(dropped)) == {0, 1000}
    assert 10 < (dropped == 0).all(axis=(0, 1)).sum() == (dropped == 0).any(axis=(0, 1)).sum() < 30
    bent = Chain("hyperspectral", [{"spectral_jitter": {"noise": 0.0}}]).apply(cube, sample_rng(0, 0, "a"))[
        "cube"
    ]
    assert bent.dtype == np.uint16
    assert 900 <= bent.min() < bent.max() <= 1100
    assert np.abs(np.diff(bent[0, 0].astype(int))).max() < 20


def test_values_without_data_stay_without() -> None:
    values = np.full((4, 4, 5), 7, np.int16)
    values[0, 0] = -999
    cube = {"cube": values, "nodata": np.array(-999.0)}
    out = Chain("hyperspectral", ["spectral_jitter"]).apply(cube, sample_rng(0, 0, "a"))["cube"]
    assert (out[0, 0] == -999).all()
    assert (out != -999).sum() == 75


def test_a_clip_decodes_the_frames_it_takes_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    import decord

    kind = modalities.get("video")
    files = {name: memoryview(content) for name, content in kind.synth(0).items()}
    whole = kind.decode(kind.synth(0))
    asked: list[Any] = []
    real = decord.VideoReader.get_batch

    def spy(self: Any, picks: Any) -> Any:
        asked.append(len(picks))
        return real(self, picks)

    monkeypatch.setattr(decord.VideoReader, "get_batch", spy)
    chain = Chain("video", [{"clip": {"frames": 5, "rate": 30.0}}])
    out = chain.arrays(files, sample_rng(0, 0, "a"), chain.open(files))
    later = chain.apply(whole, sample_rng(0, 0, "a"))
    assert asked
    assert max(asked) <= 5
    assert len(out["frames"]) == len(out["times"]) == 5
    assert np.array_equal(out["frames"], later["frames"])
    assert (np.diff(out["times"]) >= 0).all()
