"""What is drawn: one solid, its material, a camera, a key light and surroundings, each over the frames.

World frame: y up, metres. `random_scene(seed)` draws everything from one seed.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modalities.lighting.render.environment import Environment, Panel, Triple
from modalities.lighting.render.shapes import SHAPES

Floats = NDArray[np.float64]

MATERIALS = ("diffuse", "metal", "plastic", "glass")
MOTIONS = (
    "still",
    "orbit",
    "turn",
    "sway",
)  # camera and object at rest, camera around, object around, object aside
LIGHTS = ("static", "moving", "camera")  # at rest in the world, on a path of its own, fixed to the camera

METALS = {
    "gold": (1.0, 0.78, 0.34),
    "copper": (0.95, 0.64, 0.54),
    "silver": (0.96, 0.95, 0.92),
}  # at 0 degrees


@dataclass(frozen=True, kw_only=True)
class Material:
    """How the solid answers light."""

    name: str  # one of MATERIALS
    colour: Triple  # albedo; of a metal, its reflectance at normal incidence; of glass, what 1 m lets through
    roughness: float = 0.3  # 0 mirror, 1 dull
    ior: float = 1.5

    def __post_init__(self) -> None:
        if self.name not in MATERIALS:
            raise ValueError(f"material must be one of {MATERIALS}, got {self.name!r}")
        if not all(0 <= c <= 1 for c in self.colour):
            raise ValueError(f"colour must be in [0, 1], more would make light, got {self.colour}")


@dataclass(frozen=True, kw_only=True, eq=False)
class Scene:
    """t frames. Rotations have the axes of the turned frame as columns, in world coordinates."""

    seed: int
    size: int  # pixels, square
    fps: float
    shape: str
    material: Material
    object_rotation: Floats  # (t, 3, 3)
    object_position: Floats  # (t, 3)
    camera_rotation: Floats  # (t, 3, 3): right, up, towards the viewer
    camera_position: Floats  # (t, 3)
    field_of_view: float  # radians, across the picture
    light: Floats  # (t, 3) unit, world, from the surface to the light
    intensity: Floats  # (t, 3): radiance of a white matte surface that faces the light
    environment: Environment | None = None  # None: black surroundings
    floor: Triple | None = None  # albedo of the floor under the solid; None: no floor

    def facts(self) -> Mapping[str, Any]:
        """What the arrays of a sample do not already say, as JSON."""
        return {
            "seed": self.seed,
            "objects": [
                {
                    "shape": self.shape,
                    "material": asdict(self.material),
                    "rotation": self.object_rotation.tolist(),
                    "position": self.object_position.tolist(),
                }
            ],
            "surroundings": None if self.environment is None else self.environment.facts(),
            "floor": self.floor,
        }


def look_at_origin(position: Floats) -> Floats:
    """Cameras at (t, 3) that look at the origin with y up -> rotations (t, 3, 3)."""
    back = position / np.linalg.norm(position, axis=1, keepdims=True)
    right = np.cross([0.0, 1.0, 0.0], back)
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    return np.stack([right, np.cross(back, right), back], axis=2)


def about_y(angle: Floats) -> Floats:
    """Rotations (t, 3, 3) by angles (t,) in radians around the vertical."""
    turn = np.zeros((len(angle), 3, 3))
    turn[:, 0, 0] = turn[:, 2, 2] = np.cos(angle)
    turn[:, 0, 2] = np.sin(angle)
    turn[:, 2, 0] = -turn[:, 0, 2]
    turn[:, 1, 1] = 1
    return turn


def random_material(rng: np.random.Generator, name: str) -> Material:
    """A plausible colour and roughness for one of MATERIALS."""
    vivid = _colour(rng, 0.25, 0.85)
    if name == "metal":
        return Material(
            name=name,
            colour=METALS[str(rng.choice(sorted(METALS)))],
            roughness=float(rng.uniform(0.15, 0.45)),
        )
    if name == "plastic":
        return Material(name=name, colour=vivid, roughness=float(rng.uniform(0.12, 0.35)), ior=1.5)
    if name == "glass":
        return Material(
            name=name, colour=_colour(rng, 0.75, 0.98), roughness=0.1, ior=float(rng.uniform(1.4, 1.6))
        )
    return Material(name=name, colour=vivid, roughness=1.0)


def random_scene(
    seed: int,
    *,
    frames: int = 6,
    size: int = 48,
    fps: float = 8.0,
    material: str | None = None,
    shape: str | None = None,
    motion: str | None = None,
    light: str | None = None,
    surroundings: bool = True,
) -> Scene:
    """A scene drawn from `seed`. What is named is kept, and changes nothing of what else is drawn."""
    rng = np.random.default_rng([seed, 0x11])
    options = {"material": MATERIALS, "shape": tuple(SHAPES), "motion": MOTIONS, "light": LIGHTS}
    chosen = {key: str(rng.choice(known)) for key, known in options.items()}
    for key, given in (("material", material), ("shape", shape), ("motion", motion), ("light", light)):
        if given is not None:
            if given not in options[key]:
                raise ValueError(f"{key} must be one of {options[key]}, got {given!r}")
            chosen[key] = given
    return _compose(rng, seed, frames, size, fps, chosen, surroundings)


def _compose(
    rng: np.random.Generator,
    seed: int,
    frames: int,
    size: int,
    fps: float,
    chosen: Mapping[str, str],
    surroundings: bool,
) -> Scene:
    along = np.linspace(-0.5, 0.5, frames) if frames > 1 else np.zeros(1)
    motion, lighting = chosen["motion"], chosen["light"]
    azimuth = rng.uniform(0, 2 * np.pi) + along * rng.uniform(0.5, 1.4) * (motion == "orbit")
    height = rng.uniform(0.15, 0.5) + 0 * along
    ring = np.cos(height)
    camera = 4.2 * np.stack([ring * np.sin(azimuth), np.sin(height), ring * np.cos(azimuth)], axis=1)
    rotation = look_at_origin(camera)
    spin = rng.uniform(0, 2 * np.pi) + along * rng.uniform(0.8, 2.2) * (motion == "turn")
    aside = np.sin(2 * np.pi * (along + 0.25)) * rng.uniform(0.12, 0.3) * (motion == "sway")
    towards = _light(rng, rotation[frames // 2])
    sweep = about_y(along * rng.choice([-1, 1]) * rng.uniform(0.8, 2.0) * (lighting == "moving"))
    path = (sweep @ towards[:, None])[:, :, 0]
    if lighting == "camera":
        path = np.einsum("tij,j->ti", rotation, rotation[frames // 2].T @ towards)
    tint = np.array([1.0, rng.uniform(0.88, 1.0), rng.uniform(0.76, 1.0)]) * rng.uniform(2.0, 3.2)
    environment, floor = _surroundings(rng), _colour(rng, 0.2, 0.6, vivid=0.35)
    return Scene(
        seed=seed,
        size=size,
        fps=fps,
        shape=chosen["shape"],
        material=random_material(np.random.default_rng([seed, 0x22]), chosen["material"]),
        object_rotation=about_y(spin) @ _tilt(rng),
        object_position=aside[:, None] * rotation[frames // 2][:, 0],
        camera_rotation=rotation,
        camera_position=camera,
        field_of_view=float(np.deg2rad(32)),
        light=path / np.linalg.norm(path, axis=1, keepdims=True),
        intensity=np.tile(tint, (frames, 1)),
        environment=environment if surroundings else None,
        floor=floor if surroundings else None,
    )


def _light(rng: np.random.Generator, camera: Floats) -> Floats:
    """World direction above the floor and, seen from the camera, not far behind the solid."""
    while True:
        towards = rng.normal(size=3)
        towards /= np.linalg.norm(towards)
        if towards[1] > 0.3 and camera[:, 2] @ towards > 0.1:
            return np.asarray(towards)


def _tilt(rng: np.random.Generator) -> Floats:
    """Lean the solid by up to half a right angle."""
    lean = rng.uniform(-0.8, 0.8)
    return np.array([[1, 0, 0], [0, np.cos(lean), -np.sin(lean)], [0, np.sin(lean), np.cos(lean)]])


def _surroundings(rng: np.random.Generator) -> Environment:
    bright = rng.uniform(0.25, 0.55)
    warm = rng.uniform(-0.15, 0.3)
    panels = []
    for _ in range(int(rng.integers(1, 4))):
        turn, rise = rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 1.1)
        direction = (np.cos(rise) * np.sin(turn), np.sin(rise), np.cos(rise) * np.cos(turn))
        panels.append(
            Panel(
                direction=(float(direction[0]), float(direction[1]), float(direction[2])),
                width=float(rng.uniform(0.15, 0.45)),
                colour=_colour(rng, 0.8, 1.8, vivid=0.3),
            )
        )
    return Environment(
        zenith=(bright * (0.5 - warm), bright * 0.6, bright * (0.85 + warm)),
        horizon=(bright * (1.15 + warm), bright * 1.1, bright * (1.05 - warm)),
        nadir=(bright * 0.35, bright * 0.32, bright * 0.3),
        panels=tuple(panels),
    )


def _colour(rng: np.random.Generator, low: float, high: float, *, vivid: float = 1.0) -> Triple:
    """A random hue between `low` and `high`; `vivid` 0 is grey."""
    hue = rng.uniform(0, 1) + np.array([0, 1 / 3, 2 / 3])
    mix = 0.5 + 0.5 * vivid * np.cos(2 * np.pi * hue)
    r, g, b = low + (high - low) * mix
    return (float(r), float(g), float(b))
