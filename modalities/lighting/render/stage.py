"""The solid, the floor and the surroundings as rays meet them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from modalities.lighting.render import harmonics, march, shapes
from modalities.lighting.render.brdf import dot
from modalities.lighting.render.scene import Scene

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Index = NDArray[np.intp]

SUN = 0.12  # radians, how wide the key light looks through clear glass


@dataclass(frozen=True, eq=False)
class Stage:
    """Rays are (3, n) in the world frame, each with the index (n,) of its frame."""

    scene: Scene
    distance: shapes.Distance
    floor_height: float
    harmonics: Floats | None  # (9, 3), world frame

    @classmethod
    def of(cls, scene: Scene) -> "Stage":
        distance = shapes.build(scene.shape, scene.seed)
        light = None if scene.environment is None else harmonics.project(scene.environment.radiance)
        lowest = 0.0 if scene.floor is None else _lowest(distance, scene.object_rotation[0])
        return cls(scene, distance, lowest, light)

    def to_object(self, points: Floats, frame: Index) -> Floats:
        """World points (3, n) in the frame of the solid."""
        return self.turn_in(points - self.scene.object_position[frame].T, frame)

    def turn_in(self, directions: Floats, frame: Index) -> Floats:
        """World directions in the frame of the solid."""
        return _turn(self.scene.object_rotation.transpose(0, 2, 1), directions, frame)

    def turn_out(self, directions: Floats, frame: Index) -> Floats:
        """Back from the frame of the solid to the world."""
        return _turn(self.scene.object_rotation, directions, frame)

    def meet(self, origin: Floats, direction: Floats, frame: Index) -> tuple[Floats, Mask]:
        """Depth (n,) of the solid along world rays, and whether they meet it."""
        return march.enter(self.distance, self.to_object(origin, frame), self.turn_in(direction, frame))

    def shadow(self, points: Floats, frame: Index) -> Floats:
        """Share of the key light that arrives at world points, by colour: (3, n); glass lets some through."""
        _, blocked = self.meet(points, self.scene.light[frame].T, frame)
        material = self.scene.material
        through = 0.6 * np.array(material.colour) if material.name == "glass" else np.zeros(3)
        return np.asarray(np.where(blocked, through[:, None], 1.0))

    def ambient(self, normals: Floats) -> Floats:
        """What a white matte surface sends back of the surroundings, (3, n)."""
        if self.harmonics is None:
            return np.zeros_like(normals)
        return np.maximum(harmonics.irradiance(self.harmonics, normals), 0)

    def beyond(
        self, origin: Floats, direction: Floats, frame: Index, *, blur: float = 0.0, shadows: bool = False
    ) -> Floats:
        """Radiance (3, n) from where a ray goes that does not meet the solid: floor or surroundings."""
        scene = self.scene
        if scene.environment is None:
            light = np.zeros_like(direction)
        else:
            light = scene.environment.radiance(direction, blur=blur)
        if scene.floor is None:
            return light
        down = np.flatnonzero(direction[1] < -1e-3)
        depth = (self.floor_height - origin[1, down]) / direction[1, down]
        down, depth = down[depth > 0], depth[depth > 0]
        point = origin[:, down] + depth * direction[:, down]
        away = np.hypot(point[0], point[2])
        fade = np.clip((6 - away) / 4, 0, 1) ** 2
        near = fade > 0
        down, point, fade = down[near], point[:, near], fade[near]
        horizon = np.zeros(3) if scene.environment is None else np.array(scene.environment.horizon)
        floor = self._floor(point, frame[down], shadows=shadows)
        light[:, down] = horizon[:, None] + (floor - horizon[:, None]) * fade
        return light

    def _floor(self, point: Floats, frame: Index, *, shadows: bool) -> Floats:
        """A matte floor with faint tiles; darker where the solid is close and keeps the sky out."""
        scene = self.scene
        tiles = np.clip(6 * np.sin(np.pi * point[0] / 0.7) * np.sin(np.pi * point[2] / 0.7), -1, 1)
        albedo = np.array(scene.floor)[:, None] * (0.88 + 0.12 * tiles)
        arriving = scene.intensity[frame].T * np.maximum(scene.light[frame, 1], 0)
        if shadows:
            arriving = arriving * self.shadow(point, frame)
        gap = np.maximum(self.distance(self.to_object(point, frame)), 0)
        open_sky = 1 - 0.6 * np.exp(-4 * gap)
        up = np.array([[0.0], [1.0], [0.0]])
        return np.asarray(albedo * (arriving + self.ambient(up) * open_sky))

    def key_seen(self, direction: Floats, frame: Index) -> Floats:
        """Radiance (3, n) of the key light for rays that look at it: a disc of the same irradiance."""
        scene = self.scene
        angle = np.arccos(np.clip(dot(direction, scene.light[frame].T), -1, 1))
        return np.asarray(
            scene.intensity[frame].T / np.sin(SUN) ** 2 * np.clip((SUN - angle) / 0.04 + 0.5, 0, 1)
        )


def _turn(rotations: Floats, vectors: Floats, frame: Index) -> Floats:
    """Rotation (t, 3, 3) of each ray's frame times its vector (3, n); rays of a frame lie together or not."""
    if len(rotations) > 1 and np.array_equal(rotations, np.broadcast_to(rotations[:1], rotations.shape)):
        return np.asarray(rotations[0] @ vectors)
    if len(rotations) == 1:
        return np.asarray(rotations[0] @ vectors)
    return np.asarray(np.einsum("nij,jn->in", rotations[frame], vectors))


def _lowest(distance: shapes.Distance, rotation: Floats) -> float:
    """Height of the lowest point of the solid, looking up from below on a grid."""
    side = np.linspace(-1, 1, 41)
    x, z = (a.ravel() for a in np.meshgrid(side, side))
    origin = np.stack([x, np.full_like(x, -1.5), z])
    up = np.tile([[0.0], [1.0], [0.0]], x.size)
    depth, hit = march.enter(distance, rotation.T @ origin, rotation.T @ up)
    return float(depth[hit].min() - 1.5)
