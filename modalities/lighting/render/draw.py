"""From a scene to frames, normals and mask, all frames at once."""

import json

import numpy as np
from numpy.typing import NDArray

from modalities.base import Arrays
from modalities.lighting.render import harmonics, shapes
from modalities.lighting.render.brdf import normalise
from modalities.lighting.render.scene import Scene
from modalities.lighting.render.shade import shade
from modalities.lighting.render.stage import Stage

Floats = NDArray[np.float64]


def render(scene: Scene, *, supersample: int = 1) -> Arrays:
    """Draw a scene as the arrays of a lighting sample, in linear light.

    frames (t, h, w, 3) float32; lights (t, 3), intensity (t, 3), times (t,) in seconds; normals float32 and
    mask, with a leading t unless camera and solid rest; environment (t, 9, 3) where there is one; directions
    are in the camera frame. `supersample` draws s x s rays a pixel and averages their colours.
    """
    t, size, s = len(scene.light), scene.size, supersample
    stage = Stage.of(scene)
    colour, normals, mask = _trace(stage, size * s)
    if s > 1:
        colour = colour.reshape(3, t, size, s, size, s).mean(axis=(3, 5))
        normals = normalise(normals.reshape(3, t, size, s, size, s).mean(axis=(3, 5)))
        mask = mask.reshape(t, size, s, size, s).mean(axis=(2, 4)) >= 0.5
        normals = normals * mask
    normals = normals.transpose(1, 2, 3, 0).astype(np.float32)
    if _rests(scene):
        normals, mask = normals[0], mask[0]
    to_camera = scene.camera_rotation.transpose(0, 2, 1)
    lights = (to_camera @ scene.light[:, :, None])[:, :, 0]
    arrays = {
        "frames": np.ascontiguousarray(colour.transpose(1, 2, 3, 0)).astype(np.float32),
        "lights": lights / np.linalg.norm(lights, axis=1, keepdims=True),
        "intensity": scene.intensity.copy(),
        "normals": np.ascontiguousarray(normals),
        "mask": np.ascontiguousarray(mask),
        "times": np.arange(t) / scene.fps,
        "transfer": np.array("linear"),
        "camera": np.array(_json(_camera(scene))),
        "material": np.array(_json({"name": scene.material.name, "roughness": scene.material.roughness})),
        "scene": np.array(_json(scene.facts())),
    }
    if stage.harmonics is not None:
        turned = [harmonics.rotate(stage.harmonics, rotation) for rotation in to_camera]
        arrays["environment"] = np.stack(turned)
    return arrays


def _trace(stage: Stage, size: int) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Colour and camera-frame normals (3, t, size, size), mask (t, size, size)."""
    scene = stage.scene
    t, pixels = len(scene.light), size * size
    frame = np.repeat(np.arange(t), pixels)
    side = np.tan(scene.field_of_view / 2) * ((np.arange(size) + 0.5) / size * 2 - 1)
    x, y = np.meshgrid(side, -side)
    looks = normalise(np.stack([x.ravel(), y.ravel(), np.full(pixels, -1.0)]))
    direction = np.concatenate([rotation @ looks for rotation in scene.camera_rotation], axis=1)
    origin = np.repeat(scene.camera_position.T, pixels, axis=1)
    depth, hit = stage.meet(origin, direction, frame)

    colour, normals = np.zeros((3, t * pixels)), np.zeros((3, t * pixels))
    missed = np.flatnonzero(~hit)
    if scene.environment is not None or scene.floor is not None:
        colour[:, missed] = stage.beyond(origin[:, missed], direction[:, missed], frame[missed], shadows=True)
    found = np.flatnonzero(hit)
    at, view = frame[found], -direction[:, found]
    points = origin[:, found] - depth[found] * view
    outward = stage.turn_out(shapes.normals(stage.distance, stage.to_object(points, at)), at)
    colour[:, found] = shade(stage, points, outward, view, at)
    normals[:, found] = np.einsum("nji,jn->in", scene.camera_rotation[at], outward)
    grid = (3, t, size, size)
    return colour.reshape(grid), normals.reshape(grid), hit.reshape(grid[1:])


def _rests(scene: Scene) -> bool:
    """Whether nothing but the light moves."""
    poses = (scene.object_rotation, scene.object_position, scene.camera_rotation, scene.camera_position)
    return all(np.array_equal(p, np.broadcast_to(p[:1], p.shape)) for p in poses)


def _camera(scene: Scene) -> dict[str, object]:
    return {
        "model": "perspective",
        "field_of_view": scene.field_of_view,
        "position": scene.camera_position.tolist(),
        "rotation": scene.camera_rotation.tolist(),
    }


def _json(facts: object) -> str:
    return json.dumps(facts, sort_keys=True, separators=(",", ":"), allow_nan=False)
