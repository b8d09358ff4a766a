"""Tiny videos whose class is a motion, for tests and demos."""

import numpy as np
from numpy.typing import NDArray

from modalities.base import Files
from modalities.libraries import load
from modalities.video.writer import lossy, write_rgb

MOTIONS = ("left", "right", "up", "down", "rotate")
SIDE, FRAMES, FPS, RADIUS = 48, 16, 8, 10
DIRECTIONS = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0), "rotate": (0, 0)}  # dy, dx


def synth(seed: int) -> Files:
    """`mp4` (48x48, 16 frames, 8 a second, H.264) and `cls`, the name of the motion.

    A textured disc on a textured ground. It starts anywhere, at any angle, and what leaves on one side comes
    back on the other, so that no single frame tells the motion.
    """
    rng = np.random.default_rng(seed)
    motion = MOTIONS[int(rng.integers(len(MOTIONS)))]
    ground, disc = _texture(rng, SIDE), _texture(rng, 2 * SIDE)
    centre, angle = rng.uniform(0, SIDE, 2), rng.uniform(0, 2 * np.pi)
    speed = rng.uniform(1.5, 3.0)  # pixels a frame
    turn = rng.choice([-1, 1]) * rng.uniform(0.2, 0.35) if motion == "rotate" else 0.0  # radians a frame
    step = np.array(DIRECTIONS[motion]) * speed
    shots = ((t / FPS, _draw(ground, disc, centre + t * step, angle + t * turn)) for t in range(FRAMES))
    return {"mp4": write_rgb(shots, lossy("h264", 18)), "cls": motion.encode()}


def _texture(rng: np.random.Generator, side: int) -> NDArray[np.float32]:
    """(side, side, 3) in 0..255: a random colour with soft spots of a few pixels."""
    load("scipy.ndimage")
    from scipy.ndimage import gaussian_filter

    noise = gaussian_filter(rng.standard_normal((side, side, 3)), (2, 2, 0), mode="wrap")
    texture: NDArray[np.float32] = rng.uniform(70, 185, 3) + 45 * noise / noise.std()
    return np.clip(texture, 0, 255).astype(np.float32)


def _draw(
    ground: NDArray[np.float32], disc: NDArray[np.float32], centre: NDArray[np.float64], angle: float
) -> NDArray[np.uint8]:
    """(48, 48, 3): the ground, and over it the disc at `centre` (y, x), turned by `angle`, edges blended."""
    y, x = np.mgrid[:SIDE, :SIDE]
    dy, dx = ((np.stack([y, x]) - centre[:, None, None] + SIDE / 2) % SIDE) - SIDE / 2
    cover = np.clip(RADIUS + 0.5 - np.hypot(dy, dx), 0, 1)[..., None]
    v = np.cos(angle) * dy - np.sin(angle) * dx + SIDE  # into the middle of the disc's own texture
    u = np.sin(angle) * dy + np.cos(angle) * dx + SIDE
    frame = ground * (1 - cover) + _bilinear(disc, v, u) * cover
    return np.asarray(np.rint(frame), np.uint8)


def _bilinear(
    image: NDArray[np.float32], y: NDArray[np.float64], x: NDArray[np.float64]
) -> NDArray[np.float64]:
    y0, x0 = np.floor(y).astype(int), np.floor(x).astype(int)
    fy, fx = (y - y0)[..., None], (x - x0)[..., None]
    h, w = image.shape[:2]
    y0, x0, y1, x1 = y0 % h, x0 % w, (y0 + 1) % h, (x0 + 1) % w
    top = image[y0, x0] * (1 - fx) + image[y0, x1] * fx
    bottom = image[y1, x0] * (1 - fx) + image[y1, x1] * fx
    return np.asarray(top * (1 - fy) + bottom * fy)
