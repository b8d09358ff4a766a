from dataclasses import replace

import numpy as np
import pytest

from modalities.base import Arrays, Raw
from modalities.lighting import photometric
from modalities.lighting.codec import decode
from modalities.lighting.probe import pack, probe
from modalities.lighting.render import random_scene, render
from modalities.lighting.render.shapes import SHAPES


def under_many_lights(shape: str, material: str = "diffuse", lights: int = 24) -> Arrays:
    scene = random_scene(
        3,
        frames=lights,
        size=48,
        shape=shape,
        material=material,
        motion="still",
        light="static",
        surroundings=False,
    )
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(lights, 3))
    directions[:, 2] = np.abs(directions[:, 2]) + 0.5
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return render(replace(scene, light=directions @ scene.camera_rotation[0].T))


def mean_error(arrays: Arrays, **options: float) -> float:
    normals, _ = photometric.solve_sample(arrays, **options)
    solved = normals.any(axis=2) & arrays["mask"]
    assert solved.sum() > 0.95 * arrays["mask"].sum()
    return float(photometric.angular_error(normals, arrays["normals"], solved).mean())


@pytest.mark.parametrize("shape", sorted(SHAPES))
def test_normals_of_lambertian_renders_are_recovered_to_a_degree(shape: str) -> None:
    assert mean_error(under_many_lights(shape)) < 1


def test_normals_of_a_convex_render_are_recovered_to_a_hundredth_of_a_degree() -> None:
    assert mean_error(under_many_lights("ellipsoid")) < 0.01


def test_albedo_is_recovered() -> None:
    arrays = under_many_lights("sphere")
    _, albedo = photometric.solve_sample(arrays)
    scene = random_scene(3, material="diffuse")
    want = np.mean(scene.material.colour)
    assert np.median(albedo[arrays["mask"]]) == pytest.approx(want, rel=1e-3)


def test_trimming_helps_against_highlights() -> None:
    plastic = under_many_lights("sphere", "plastic")
    plain, robust = mean_error(plastic), mean_error(plastic, trim=0.25)
    assert robust < 0.5 * plain


def test_bunny_normals_agree_with_its_truth_and_trimming_helps(bunny: Raw) -> None:
    """Measured in degrees: mean 14.2, median 5.3; with a quarter of the frames trimmed 6.5 and 4.5."""
    arrays = decode(pack(bunny, probe(bunny)))
    plain = photometric.solve_sample(arrays)[0]
    robust = photometric.solve_sample(arrays, trim=0.25)[0]
    truth, mask = arrays["normals"], arrays["mask"]
    plain, robust = (photometric.angular_error(normals, truth, mask) for normals in (plain, robust))
    assert plain.mean() < 15
    assert np.median(plain) < 5.5
    assert robust.mean() < 7
    assert np.median(robust) < 4.8


@pytest.mark.parametrize("turn", [(-1, 1, 1), (1, -1, 1)])
def test_bunny_truth_has_x_right_and_y_up(bunny: Raw, turn: tuple[int, int, int]) -> None:
    arrays = decode(pack(bunny, probe(bunny)))
    normals = photometric.solve_sample(arrays, trim=0.25)[0]
    assert photometric.angular_error(normals * turn, arrays["normals"], arrays["mask"]).mean() > 40
    rows = np.nonzero(arrays["mask"])[0]
    assert np.corrcoef(arrays["normals"][arrays["mask"]][:, 1], -rows)[0, 1] > 0.2  # upper parts look up


def test_pixels_that_are_not_determined_stay_zero() -> None:
    lights = np.array([[1, 0, 0], [0, 1, 0], [np.sqrt(0.5), np.sqrt(0.5), 0]])
    normals, albedo = photometric.solve(np.ones((3, 2, 2)), lights)
    assert not normals.any()
    assert not albedo.any()


def test_too_few_or_moving_frames_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 3 frames with a light each, got 2 and 2"):
        photometric.solve(np.ones((2, 4, 4)), np.eye(3)[:2])
    moving = render(random_scene(1, size=8, motion="turn"))
    with pytest.raises(ValueError, match="wants it at rest"):
        photometric.solve_sample(moving)
