import numpy as np
import pytest

from modalities.lighting.render import brdf
from modalities.lighting.render.harmonics import fibonacci

UP = np.array([[0.0], [0.0], [1.0]])
MANY = fibonacci(200_000)


def returned(view: np.ndarray, roughness: float) -> float:
    """Share of the light from a white furnace that a perfect mirror microfacet surface sends to `view`."""
    shine = brdf.ggx(np.broadcast_to(UP, MANY.shape), view, MANY, roughness)
    return float(shine.mean() * 4)  # integral over the sphere of f cos = mean * 4 pi / pi


@pytest.mark.parametrize("roughness", [0.3, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("elevation", [0.1, 0.5, 1.0, np.pi / 2])
def test_a_microfacet_surface_sends_back_no_more_than_it_gets(roughness: float, elevation: float) -> None:
    view = np.array([[np.cos(elevation)], [0.0], [np.sin(elevation)]])
    assert 0.3 < returned(view, roughness) <= 1.002


@pytest.mark.parametrize("elevation", [0.5, 1.0, np.pi / 2])
def test_a_smooth_microfacet_surface_sends_back_nearly_all(elevation: float) -> None:
    view = np.array([[np.cos(elevation)], [0.0], [np.sin(elevation)]])
    assert returned(view, 0.3) == pytest.approx(1, abs=0.03)  # single scattering loses a little


def test_ggx_is_reciprocal() -> None:
    rng = np.random.default_rng(0)
    a, b = (brdf.normalise(np.abs(rng.normal(size=(3, 100)))) for _ in range(2))
    normal = np.broadcast_to(UP, a.shape)
    there, back = brdf.ggx(normal, a, b, 0.4), brdf.ggx(normal, b, a, 0.4)
    np.testing.assert_allclose(there / b[2], back / a[2], rtol=1e-9)


def test_fresnel_at_normal_incidence_and_brewster() -> None:
    straight = brdf.fresnel_dielectric(np.array([1.0]), 1.5)
    assert straight[0] == pytest.approx(0.04)
    brewster = np.cos(np.arctan(1.5))  # no parallel part is left
    across = np.cos(2 * np.arctan(1.5)) ** 2 / 2
    assert brdf.fresnel_dielectric(np.array([brewster]), 1.5)[0] == pytest.approx(across)


def test_fresnel_is_the_same_from_both_sides_and_total_beyond_the_critical_angle() -> None:
    outside = np.array([0.2, 0.6, 0.9])
    inside = np.sqrt(1 - (1 - outside**2) / 1.5**2)
    np.testing.assert_allclose(
        brdf.fresnel_dielectric(outside, 1.5), brdf.fresnel_dielectric(inside, 1 / 1.5), rtol=1e-9
    )
    assert brdf.fresnel_dielectric(np.array([0.5]), 1 / 1.5)[0] == 1


def test_refraction_obeys_snell_and_comes_back_out() -> None:
    into = brdf.normalise(np.array([[0.6], [0.1], [-0.7]]))
    bent, total = brdf.refract(into, UP, 1 / 1.5)
    assert not total[0]
    assert np.hypot(*into[:2, 0]) == pytest.approx(1.5 * np.hypot(*bent[:2, 0]))
    out, total = brdf.refract(bent, UP, 1.5)
    np.testing.assert_allclose(out, into, atol=1e-12)
    assert brdf.refract(brdf.normalise(np.array([[1.0], [0], [-0.2]])), UP, 1.5)[1][0]
