"""What a lighting folder holds, from headers alone."""

import re

import numpy as np

from modalities.base import BadSample, Files, Meta, Raw
from modalities.lighting.readers import document, stereo
from modalities.lighting.schema import Layout

PATTERNS = ("lighting.json", "lights.npy")
COMPANIONS = {
    "lighting.json": (
        "frame_*.png",
        "frame_*.npy",
        "frames.npy",
        "video.mp4",
        "normals.npy",
        "normals.png",
        "mask.npy",
        "mask.png",
    ),
    "lights.npy": ("*_[0-9]*.npy", "*_[0-9]*.png", "gt_normal.npy", "mask.png"),
}
EXTENSION = re.compile(r"[a-z0-9_-][a-z0-9_.-]*")


def inspect(raw: Raw) -> Layout:
    """Layout of a sample, whichever of the two it is."""
    if raw.filename == "lighting.json":
        return document.read(raw)
    if raw.filename == "lights.npy":
        return stereo.read(raw)
    raise BadSample("bad-name", f"{raw.name}: a lighting sample is a folder with one of {PATTERNS}")


def probe(raw: Raw) -> Meta:
    """Facts of a sample; BadSample as listed in `schema`.

    layout: "document" or "stereo"; num_frames, height, width, dtype, transfer; fps or None; material: name or
    None; normals, mask, environment: whether there; light_elevation_min_deg, _max_deg above the picture.
    """
    layout = inspect(raw)
    members(raw)
    t, height, width = layout.shape
    elevation = np.rad2deg(np.arcsin(np.clip(layout.lights[:, 2], -1, 1)))
    step = None if layout.times is None or t < 2 else (layout.times[-1] - layout.times[0]) / (t - 1)
    name = layout.facts.get("material", {}).get("name")
    return {
        "layout": "document" if raw.filename == "lighting.json" else "stereo",
        "num_frames": t,
        "height": height,
        "width": width,
        "dtype": layout.dtype.name,
        "transfer": layout.transfer,
        "fps": float(1 / step) if step is not None and step > 0 else None,
        "material": name if isinstance(name, str) else None,
        "normals": layout.normals is not None,
        "mask": layout.mask is not None,
        "environment": layout.environment is not None,
        "light_elevation_min_deg": round(float(elevation.min()), 3),
        "light_elevation_max_deg": round(float(elevation.max()), 3),
    }


def members(raw: Raw) -> dict[str, Raw]:
    """Files of a sample by their extension in a shard, which is their own name in lower case."""
    found = {raw.filename: raw}
    for name in sorted(raw.companions):
        extension = name.lower()
        if extension in found or not EXTENSION.fullmatch(extension):
            raise BadSample(
                "bad-name", f"{name!r} beside {raw.name} cannot be an extension of its own; rename it"
            )
        found[extension] = raw.companion(name)
    return found


def pack(raw: Raw, meta: Meta) -> Files:
    """Every file as it is."""
    return {extension: file.read() for extension, file in members(raw).items()}
