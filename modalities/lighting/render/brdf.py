"""How a surface sends light on: Lambert, and microfacets with Fresnel.

Everything is multiplied by pi and by the cosine of the light, so a white matte surface that faces a light
of intensity 1 has radiance 1. Walter et al., "Microfacet models for refraction through rough surfaces",
EGSR 2007 (GGX); Heitz, "Understanding the masking-shadowing function", JCGT 2014 (height-correlated Smith).
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def dot(a: Floats, b: Floats) -> Floats:
    """Of vectors (3, n), as (n,)."""
    return np.asarray(a[0] * b[0] + a[1] * b[1] + a[2] * b[2])


def normalise(vector: Floats) -> Floats:
    """Unit vectors (3, n); a zero vector stays zero."""
    return np.asarray(vector / np.maximum(np.sqrt(dot(vector, vector)), 1e-30))


def reflect(direction: Floats, normal: Floats) -> Floats:
    """Mirror travelling directions (3, n) at the surface."""
    return np.asarray(direction - 2 * dot(direction, normal) * normal)


def refract(direction: Floats, normal: Floats, ratio: float) -> tuple[Floats, NDArray[np.bool_]]:
    """Bend travelling directions (3, n) by Snell's law, `ratio` = index before / index behind.

    The normal points against the direction. Where all light is reflected (second result true) the first
    result is the mirror direction.
    """
    cosine = -dot(direction, normal)
    square = 1 - ratio**2 * (1 - cosine**2)
    total = square < 0
    bent = ratio * direction + (ratio * cosine - np.sqrt(np.maximum(square, 0))) * normal
    return np.where(total, reflect(direction, normal), bent), total


def fresnel_dielectric(cosine: Floats, ior: float) -> Floats:
    """Share of unpolarised light reflected on entering a clear body (ior > 1) or leaving it (1 / ior)."""
    cosine = np.clip(cosine, 0, 1)
    square = 1 - (1 - cosine**2) / ior**2
    inner = np.sqrt(np.maximum(square, 0))
    across = (cosine - ior * inner) / (cosine + ior * inner + 1e-30)
    along = (ior * cosine - inner) / (ior * cosine + inner + 1e-30)
    return np.where(square < 0, 1.0, (across**2 + along**2) / 2)


def fresnel_schlick(cosine: Floats, facing: Floats) -> Floats:
    """Coloured reflectance of a metal, from `facing` (3,) at normal incidence to white at grazing: (3, n)."""
    fade = (1 - np.clip(cosine, 0, 1)) ** 5
    return np.asarray(facing[:, None] + (1 - facing[:, None]) * fade)


def ggx(normal: Floats, view: Floats, light: Floats, roughness: float) -> Floats:
    """Shine without Fresnel, pi D G / (4 n.l n.v) n.l, (n,); unit vectors (3, n), away from the surface.

    `roughness` is squared to give alpha, as artists expect.
    """
    alpha2 = max(roughness, 0.03) ** 4
    nl, nv = dot(normal, light), dot(normal, view)
    half = normalise(view + light)
    nh = np.clip(dot(normal, half), 0, 1)
    lit = (nl > 0) & (nv > 0)
    nl, nv = np.maximum(nl, 1e-6), np.maximum(nv, 1e-6)
    spread = alpha2 / (nh**2 * (alpha2 - 1) + 1) ** 2  # pi * D
    visible = 0.5 / (
        nl * np.sqrt(alpha2 + (1 - alpha2) * nv**2) + nv * np.sqrt(alpha2 + (1 - alpha2) * nl**2)
    )
    return np.where(lit, spread * visible * nl, 0.0)
