import numpy as np
from scipy.spatial.transform import Rotation
from scipy.special import sph_harm_y

from modalities.lighting.render import harmonics

DIRECTIONS = harmonics.fibonacci(200)


def peer(degree: int, order: int) -> np.ndarray:
    """Real harmonics from scipy's complex ones, its Condon-Shortley sign taken out."""
    x, y, z = DIRECTIONS
    value = sph_harm_y(degree, abs(order), np.arccos(z), np.arctan2(y, x)) * (-1) ** order
    if order == 0:
        return value.real
    return np.sqrt(2) * (value.real if order > 0 else value.imag)


def test_basis_is_that_of_scipy() -> None:
    want = [peer(degree, order) for degree in range(3) for order in range(-degree, degree + 1)]
    np.testing.assert_allclose(harmonics.basis(DIRECTIONS), want, atol=1e-12)


def test_projection_recovers_the_coefficients_of_a_smooth_light() -> None:
    coefficients = np.random.default_rng(0).normal(size=(9, 3))
    got = harmonics.project(lambda d: harmonics.radiance(coefficients, d), samples=4096)
    np.testing.assert_allclose(got, coefficients, atol=5e-3)


def test_turned_coefficients_give_the_turned_light() -> None:
    coefficients = np.random.default_rng(1).normal(size=(9, 3))
    turn = Rotation.random(random_state=2).as_matrix()
    turned = harmonics.rotate(coefficients, turn)
    np.testing.assert_allclose(
        harmonics.radiance(turned, turn @ DIRECTIONS),
        harmonics.radiance(coefficients, DIRECTIONS),
        atol=1e-12,
    )


def test_irradiance_is_the_cosine_weighted_mean_of_radiance() -> None:
    coefficients = np.random.default_rng(3).normal(size=(9, 3))
    many = harmonics.fibonacci(200_000)
    normal = DIRECTIONS[:, :1]
    cosine = np.maximum(normal.T @ many, 0)[0]
    slow = 4 * np.pi / many.shape[1] * (harmonics.radiance(coefficients, many) * cosine).sum(axis=1) / np.pi
    np.testing.assert_allclose(harmonics.irradiance(coefficients, normal)[:, 0], slow, atol=1e-4)


def test_mirror_signs_are_those_of_x() -> None:
    mirrored = DIRECTIONS * np.array([[-1], [1], [1]])
    np.testing.assert_allclose(
        harmonics.basis(mirrored), harmonics.basis(DIRECTIONS) * harmonics.MIRROR_X[:, None], atol=1e-12
    )
