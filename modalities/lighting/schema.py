"""What a lighting sample is, and the document that describes one.

A sample is a folder. In a shard its files keep their names, lower case, as extensions. Two layouts are read.

**lighting.json**, our own, beside the frames:

    {
      "format": "rayloom-lighting", "version": 1,
      "axes": "x-right y-up z-viewer",
      "transfer": "linear",
      "frames": ["frame_000.png", "frame_001.png"],
      "lights": [{"direction": [0.6, 0.0, 0.8], "intensity": [1, 1, 1]}, ...],
      "fps": 8.0, "normals": "normals.npy", "mask": "mask.png",
      "camera": {...}, "material": {"name": "metal", ...}, "scene": {...},
      "environment": [[[r, g, b], ... nine of them], ...]
    }

    axes         the only one there is, written out so that nobody must guess
    transfer     what pixel values mean: "linear", radiance times a constant; "srgb", that, clipped and sRGB
                 encoded; "display", pictures with some other tone curve
    frames       one file a frame, PNG of 8 or 16 bits or .npy (h, w, 3); or one file of all, "frames.npy"
                 (t, h, w, 3) or "video.mp4"
    lights       one a frame: unit direction from the surface TO the light in the camera frame of that frame;
                 intensity, the radiance of a white matte surface that faces the light, 1 if left out
    times | fps  optional: seconds of each frame, or frames a second
    normals      optional: unit, camera frame, .npy (h, w, 3) or (t, h, w, 3), 0 where there is no surface; or
                 a PNG of (n + 1) / 2, (0, 0, 0) where there is none
    mask         optional: object or not, (h, w), or (t, h, w) in an .npy
    camera, material, scene
                 optional objects, kept as they are. The renderer writes field of view and pose of each frame,
                 the material's name, and shape, material and pose of each object
    environment  optional: surroundings in the camera frame of each frame as spherical harmonics of order 2, a
                 colour each (`render.harmonics`)

**lights.npy**, the usual photometric stereo folder: unit directions (n, 3) in the same axes, frames
`*_000.npy` or `*_000.png` whose number is the row of their light, and perhaps `gt_normal.npy` and `mask.png`.
Pixels are linear.

Reason codes of `BadSample`, stable, because people count them; those of image and video headers come on top:

    empty            a file without bytes
    too-large        over a cap below or over MAX_DECODED_BYTES
    bad-name         a file whose name cannot be an extension in a shard, or two that differ only in case
    bad-json         not JSON, or NaN in it
    unknown-version  another format, version or axes
    bad-field        a field that is missing or of the wrong form; the detail names it
    bad-light        a direction that is not finite and of length 1 to 1e-3; the detail names the row
    bad-npy          an .npy whose header is broken, whose type is not allowed, or of the wrong length
    missing-file     a file is named and not there
    no-frames        nothing to look at
    light-count      frames without a light, or lights without a frame
    shape-mismatch   frames, normals and mask differ in size or type
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

FORMAT, VERSION, AXES = "rayloom-lighting", 1, "x-right y-up z-viewer"
TRANSFERS = ("linear", "srgb", "display")

MAX_FRAMES = 10_000
MAX_SIDE = 16_384
MAX_DOCUMENT_BYTES = 2**24
UNIT_TOLERANCE = 1e-3

AXIS_LETTERS = {
    "frames": "t h w c",
    "lights": "t c",
    "intensity": "t c",
    "normals": "h w c",  # with a leading t where camera or object move
    "mask": "h w",  # likewise
    "times": "t",
    "environment": "t n c",
    "transfer": "",
    "camera": "",
    "material": "",
    "scene": "",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Layout:
    """What the headers of a sample's files say, before a pixel is decoded. Names are those of companions."""

    frames: tuple[str, ...]  # one a frame, or one file of all
    whole: bool  # that one file of all
    shape: tuple[int, int, int]  # t, h, w
    dtype: np.dtype[Any]
    lights: NDArray[np.float64]  # (t, 3)
    intensity: NDArray[np.float64]  # (t, 3)
    transfer: str = "linear"
    times: NDArray[np.float64] | None = None
    normals: str | None = None
    mask: str | None = None
    environment: NDArray[np.float64] | None = None
    facts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # camera, material, scene
