"""Rendered sequences from a seed, as files: tests, demos, and training data by the million."""

import numpy as np

from modalities.base import Files
from modalities.lighting.codec import encode
from modalities.lighting.render import random_scene, render
from modalities.lighting.transforms import tonemap_frames


def synth(
    seed: int,
    *,
    frames: int = 6,
    size: int = 48,
    supersample: int = 1,
    hdr: bool = False,
    material: str | None = None,
    shape: str | None = None,
    motion: str | None = None,
    light: str | None = None,
    surroundings: bool = True,
) -> Files:
    """One sequence with its light, and its material's name as the label `cls`.

    Pictures are uint8, exposed and clipped as a camera does; `hdr` keeps linear float32. Names are those of
    `MATERIALS`, `SHAPES`, `MOTIONS` and `LIGHTS` in `render`; without one the seed chooses.
    """
    scene = random_scene(
        seed,
        frames=frames,
        size=size,
        material=material,
        shape=shape,
        motion=motion,
        light=light,
        surroundings=surroundings,
    )
    arrays = dict(render(scene, supersample=supersample))
    arrays["normals"] = arrays["normals"].astype(np.float16)  # 0.03 degrees; half the bytes of a sample
    files = encode(arrays if hdr else tonemap_frames(arrays))
    return {**files, "cls": scene.material.name.encode()}
