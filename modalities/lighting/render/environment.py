"""Soft surroundings: a sky that fades to the horizon, a floor colour below, and glowing panels."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modalities.lighting.render.brdf import dot

Floats = NDArray[np.float64]
Triple = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A round softbox at infinity."""

    direction: Triple  # unit, world
    width: float  # radians, half angle
    colour: Triple  # radiance


@dataclass(frozen=True, kw_only=True)
class Environment:
    """Radiance as a function of the direction one looks in, world frame, y up."""

    zenith: Triple
    horizon: Triple
    nadir: Triple
    panels: tuple[Panel, ...] = ()

    def radiance(self, directions: Floats, *, blur: float = 0.0) -> Floats:
        """Unit directions (3, n) -> (3, n). `blur` in radians softens edges, as a rough mirror does."""
        up = directions[1]
        edge = 0.06 + 0.6 * blur
        above = _step(up / edge / 2 + 0.5)
        rise = np.clip(up, 0, 1) ** 0.6
        sky = _column(self.horizon) + (_column(self.zenith) - _column(self.horizon)) * rise
        light = _column(self.nadir) + (sky - _column(self.nadir)) * above
        for panel in self.panels:
            soft = 0.08 + blur
            angle = np.arccos(np.clip(dot(directions, _column(panel.direction)), -1, 1))
            spread = (panel.width / (panel.width + blur)) ** 2  # a blurred panel is larger and dimmer
            light = light + _column(panel.colour) * spread * _step((panel.width - angle) / soft + 0.5)
        return np.asarray(light)

    def facts(self) -> Mapping[str, Any]:
        """As JSON."""
        return asdict(self)


def _column(values: Triple) -> Floats:
    return np.asarray(values, np.float64)[:, None]


def _step(x: Floats) -> Floats:
    x = np.clip(x, 0, 1)
    return np.asarray(x * x * (3 - 2 * x))
