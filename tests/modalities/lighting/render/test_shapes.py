import numpy as np
import pytest

from modalities.lighting.render import march, shapes
from modalities.lighting.render.harmonics import fibonacci


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("shape", sorted(shapes.SHAPES))
def test_a_step_never_passes_the_surface(shape: str, seed: int) -> None:
    distance = shapes.build(shape, seed)
    points = np.random.default_rng(seed).uniform(-1.4, 1.4, (3, 3000))
    here = distance(points)
    step = np.abs(here) * 0.999 * fibonacci(3000)
    there = distance(points + step)
    assert (np.sign(there) == np.sign(here))[np.abs(here) > 1e-9].all()


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("shape", sorted(shapes.SHAPES))
def test_a_shape_lies_in_the_ball_that_rays_look_at(shape: str, seed: int) -> None:
    assert (shapes.build(shape, seed)(march.RADIUS * fibonacci(2000)) > 0).all()


def test_rays_meet_a_ball_where_algebra_says() -> None:
    def ball(p: np.ndarray) -> np.ndarray:
        return np.linalg.norm(p, axis=0) - 0.8

    rng = np.random.default_rng(0)
    origin = np.tile([[0.3], [0.2], [4.0]], 2000)
    aim = np.stack([rng.uniform(-1, 1, 2000), rng.uniform(-1, 1, 2000), np.zeros(2000)])
    direction = (aim - origin) / np.linalg.norm(aim - origin, axis=0)
    along = -(origin * direction).sum(axis=0)
    square = 0.64 - (origin**2).sum(axis=0) + along**2
    depth, hit = march.enter(ball, origin, direction)
    clear = np.abs(square) > 0.01  # grazing rays count as hits a little early
    np.testing.assert_array_equal(hit[clear], (square > 0)[clear])
    inside = hit & (square > 0.01)
    np.testing.assert_allclose(depth[inside], (along - np.sqrt(np.maximum(square, 0)))[inside], atol=2e-3)
    points = origin + depth * direction
    normals = shapes.normals(ball, points[:, inside])
    np.testing.assert_allclose(normals, (points / np.linalg.norm(points, axis=0))[:, inside], atol=1e-6)


def test_an_unknown_shape_names_the_known() -> None:
    with pytest.raises(LookupError, match=r"no shape 'cone'; there are .*torus"):
        shapes.build("cone", 0)
