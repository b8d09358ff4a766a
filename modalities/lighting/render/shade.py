"""Colour of the solid where a ray meets it, for each material."""

import numpy as np
from numpy.typing import NDArray

from modalities.lighting.render import march, shapes
from modalities.lighting.render.brdf import (
    dot,
    fresnel_dielectric,
    fresnel_schlick,
    ggx,
    normalise,
    reflect,
    refract,
)
from modalities.lighting.render.stage import Stage

Floats = NDArray[np.float64]
Index = NDArray[np.intp]


def shade(stage: Stage, points: Floats, normals: Floats, view: Floats, frame: Index) -> Floats:
    """Radiance (3, n) towards `view` at world points (3, n) of the solid with outward normals."""
    if stage.scene.material.name == "glass":
        return _glass(stage, points, normals, view, frame)
    return _opaque(stage, points, normals, view, frame)


def _opaque(stage: Stage, points: Floats, normals: Floats, view: Floats, frame: Index) -> Floats:
    """Matte, metal or plastic: key light with its shadow, one bounce of the surroundings."""
    scene, material = stage.scene, stage.scene.material
    colour = np.array(material.colour)
    light = scene.light[frame].T
    facing = np.maximum(dot(normals, light), 0)
    arriving = scene.intensity[frame].T * _lit(stage, points, normals, facing, frame)
    if material.name == "diffuse":
        return np.asarray(colour[:, None] * (arriving * facing + stage.ambient(normals)))
    half = normalise(view + light)
    nv, vh = np.maximum(dot(normals, view), 0), dot(view, half)
    shine = ggx(normals, view, light, material.roughness)
    mirror = stage.beyond(
        points, reflect(-view, normals), frame, blur=0.9 * material.roughness, shadows=scene.floor is not None
    )
    if material.name == "metal":
        return arriving * shine * fresnel_schlick(vh, colour) + mirror * fresnel_schlick(nv, colour)
    coat = fresnel_dielectric(nv, material.ior)
    body = colour[:, None] * (arriving * facing + stage.ambient(normals)) * (1 - coat)
    return np.asarray(body + arriving * shine * fresnel_dielectric(vh, material.ior) + mirror * coat)


def _glass(stage: Stage, points: Floats, normals: Floats, view: Floats, frame: Index) -> Floats:
    """Clear and coloured: a mirrored ray, and a ray bent on entering and again on leaving."""
    scene, material = stage.scene, stage.scene.material
    nv = np.maximum(dot(normals, view), 0)
    coat = fresnel_dielectric(nv, material.ior)
    mirror = stage.beyond(points, reflect(-view, normals), frame)
    inward, _ = refract(-view, normals, 1 / material.ior)
    start, heading = stage.to_object(points, frame), stage.turn_in(inward, frame)
    depth = march.leave(stage.distance, start, heading)
    exit_normals = stage.turn_out(shapes.normals(stage.distance, start + depth * heading), frame)
    outward, trapped = refract(inward, -exit_normals, material.ior)
    leaving = np.maximum(dot(inward, exit_normals), 0)
    kept = np.where(trapped, 1.0, 1 - fresnel_dielectric(leaving, 1 / material.ior))
    behind = stage.beyond(points + depth * inward, outward, frame, shadows=scene.floor is not None)
    behind = behind + stage.key_seen(outward, frame)
    absorbed = np.array(material.colour)[:, None] ** depth
    light = scene.light[frame].T
    arriving = scene.intensity[frame].T * np.maximum(dot(normals, light) > 0, 0)
    half = normalise(view + light)
    spark = ggx(normals, view, light, material.roughness) * fresnel_dielectric(dot(view, half), material.ior)
    return np.asarray(mirror * coat + behind * absorbed * kept * (1 - coat) + arriving * spark)


def _lit(stage: Stage, points: Floats, normals: Floats, facing: Floats, frame: Index) -> Floats:
    """Key light that arrives, (3, n), the solid's shadow on itself taken off."""
    share = np.zeros_like(points)
    seen = np.flatnonzero(facing > 0)
    lifted = points[:, seen] + 0.012 * normals[:, seen]
    share[:, seen] = stage.shadow(lifted, frame[seen])
    return share
