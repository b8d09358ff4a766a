"""Steps for lit scenes that leave the annotation true: what turns the picture turns lights and normals."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from modalities.base import Arrays
from modalities.lighting import tonemap
from modalities.lighting import transforms as lit
from modalities.lighting.cuts import select
from pipelines.loading.augment.chain import Change

Rng = np.random.Generator
STALE = ("environment", "camera", "scene")  # describe the world as it was before a turn


def flip(arrays: Arrays, rng: Rng, *, probability: float = 0.5) -> Arrays:
    """Left and right exchanged: pixels, and the x of lights, normals and environment."""
    return lit.flip(arrays) if rng.random() < probability else arrays


def flip_vertical(arrays: Arrays, rng: Rng, *, probability: float = 0.5) -> Arrays:
    """Top and bottom exchanged: pixels, and the y of lights and normals."""
    if rng.random() >= probability:
        return arrays
    return _moved(arrays, lambda images, rows: np.flip(images, rows), np.diag([1.0, -1.0, 1.0]))


def quarter_turns(arrays: Arrays, rng: Rng) -> Arrays:
    """None to three quarter turns against the clock; lights and normals turn along."""
    turns = int(rng.integers(4))
    turn = np.linalg.matrix_power(np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]), turns)
    return (
        _moved(arrays, lambda images, rows: np.rot90(images, turns, (rows, rows + 1)), turn)
        if turns
        else arrays
    )


def _moved(arrays: Arrays, how: Any, turn: NDArray[np.float64]) -> Arrays:
    """`how(images, axis of the rows)` on everything with pixels, `turn` on every direction."""
    out = {name: value for name, value in arrays.items() if name not in STALE}
    out["frames"] = np.ascontiguousarray(how(arrays["frames"], 1))
    out["lights"] = _directed(arrays["lights"], turn)
    if "normals" in arrays:
        normals = arrays["normals"]
        out["normals"] = _directed(np.ascontiguousarray(how(normals, normals.ndim - 3)), turn)
    if "mask" in arrays:
        out["mask"] = np.ascontiguousarray(how(arrays["mask"], arrays["mask"].ndim - 2))
    return out


def _directed(vectors: NDArray[Any], turn: NDArray[np.float64]) -> NDArray[Any]:
    return np.asarray(vectors @ turn.T.astype(vectors.dtype))


def frames(arrays: Arrays, rng: Rng, *, num: int = 4) -> Arrays:
    """`num` frames in order, a random one of each equal share of the sample."""
    count = len(arrays["frames"])
    edges = np.linspace(0, count, num + 1)
    picks = np.clip((edges[:-1] + np.diff(edges) * rng.random(num)).astype(np.intp), 0, count - 1)
    return select(arrays, picks)


def exposure(
    arrays: Arrays, rng: Rng, *, brightness: float = 0.15, colour: float = 0.1, gamma: float = 0.15
) -> Arrays:
    """Pictures for display, brighter or darker, tinted, and with another gamma, the same for all frames."""
    shown = tonemap.display(arrays)
    gain = rng.uniform(1 - brightness, 1 + brightness) * rng.uniform(1 - colour, 1 + colour, 3)
    changed = np.clip(shown * gain.astype(np.float32), 0, 1) ** np.float32(rng.uniform(1 - gamma, 1 + gamma))
    return {**arrays, "frames": changed, "transfer": np.array("display")}


STEPS: dict[str, Change] = {
    "flip": flip,
    "flip_vertical": flip_vertical,
    "quarter_turns": quarter_turns,
    "frames": frames,
    "exposure": exposure,
}
