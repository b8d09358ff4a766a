"""Lighting folders <-> arrays."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modalities.base import Arrays, BadSample, Files, Raw, check_decoded
from modalities.lighting.probe import PATTERNS, inspect
from modalities.lighting.readers import document, headers, npy
from modalities.lighting.schema import TRANSFERS

FRAME_TYPES = (np.uint8, np.uint16, np.float32, np.float64)


def decode(files: Files) -> Arrays:
    """All that is known of a sample; directions in the camera frame, x right, y up, z to the viewer.

    frames (t, h, w, 3) uint8, uint16, float32 or float64; transfer () str, what the values mean (`schema`).
    lights (t, 3) float64, unit, from the surface to the light; intensity (t, 3) float64.
    times (t,) float64 seconds; environment (t, 9, 3); camera, material, scene () str JSON; where known.
    normals (h, w, 3) or (t, h, w, 3) float; mask (h, w) or (t, h, w) bool; where known.
    """
    raw = _primary(files)
    layout = inspect(raw)
    arrays: dict[str, NDArray[Any]] = {
        "frames": _frames(raw, layout.frames, layout.shape, whole=layout.whole),
        "transfer": np.array(layout.transfer),
        "lights": layout.lights,
        "intensity": layout.intensity,
    }
    if layout.times is not None:
        arrays["times"] = layout.times
    if layout.environment is not None:
        arrays["environment"] = layout.environment
    if layout.normals is not None:
        arrays["normals"] = _normals(headers.companion(raw, layout.normals))
    if layout.mask is not None:
        arrays["mask"] = _mask(headers.companion(raw, layout.mask))
    return arrays | {key: np.array(document.canonical(facts)) for key, facts in layout.facts.items()}


def encode(arrays: Arrays) -> Files:
    """The document with frames.npy, normals.npy and the mask beside it; nothing is lost."""
    check(arrays)
    files = {"frames.npy": npy.write(arrays["frames"])}
    if "normals" in arrays:
        files["normals.npy"] = npy.write(arrays["normals"])
    mask = None
    if "mask" in arrays:
        still = arrays["mask"].ndim == 2
        mask = "mask.png" if still else "mask.npy"
        files[mask] = _mask_png(arrays["mask"]) if still else npy.write(arrays["mask"])
    normals = "normals.npy" if "normals" in arrays else None
    files["lighting.json"] = document.write(arrays, frames="frames.npy", normals=normals, mask=mask)
    return files


def check(arrays: Arrays) -> None:
    """ValueError that names the first array that does not fit the others."""
    frames = arrays["frames"]
    if frames.ndim != 4 or frames.shape[3] != 3 or 0 in frames.shape or frames.dtype not in FRAME_TYPES:
        raise ValueError(
            f"frames must be (t, h, w, 3) of uint8, uint16 or float, got {frames.shape} {frames.dtype}"
        )
    if str(arrays["transfer"]) not in TRANSFERS:
        raise ValueError(f"transfer must be one of {TRANSFERS}, got {str(arrays['transfer'])!r}")
    t, h, w = frames.shape[:3]
    wanted: Mapping[str, tuple[tuple[int, ...], ...]] = {
        "lights": ((t, 3),),
        "intensity": ((t, 3),),
        "times": ((t,),),
        "environment": ((t, 9, 3),),
        "normals": ((h, w, 3), (t, h, w, 3)),
        "mask": ((h, w), (t, h, w)),
    }
    for key, shapes in wanted.items():
        if key in ("lights", "intensity") or key in arrays:
            if arrays[key].shape not in shapes:
                raise ValueError(
                    f"{key} must be {shapes} beside frames {frames.shape}, got {arrays[key].shape}"
                )
            exact = "f" if key == "normals" else "b" if key == "mask" else "d"
            if exact not in (arrays[key].dtype.kind, arrays[key].dtype.char):
                raise ValueError(f"{key} has the wrong type {arrays[key].dtype}")
    try:
        headers.check_lights("lights", arrays["lights"])
    except BadSample as error:
        raise ValueError(error.detail) from error


def _primary(files: Files) -> Raw:
    for name in PATTERNS:
        if name in files:
            return Raw(
                name=name, content=files[name], companions={n: c for n, c in files.items() if n != name}
            )
    raise BadSample("missing-file", f"want one of {PATTERNS} among the members, got {sorted(files)[:20]}")


def _frames(raw: Raw, names: tuple[str, ...], shape: tuple[int, int, int], *, whole: bool) -> NDArray[Any]:
    if whole:
        file = headers.companion(raw, names[0])
        frames = npy.read(file) if file.filename.endswith(".npy") else _movie(file)
        if frames.shape != (*shape, 3):
            raise BadSample("light-count", f"{file.name} holds {frames.shape}; {(*shape, 3)} was announced")
        return frames
    files = [headers.companion(raw, name) for name in names]
    return np.stack([npy.read(f) if f.filename.endswith(".npy") else _picture(f) for f in files])


def _movie(raw: Raw) -> NDArray[Any]:
    from modalities.video.codec import decode as decode_video

    movie = decode_video({"mp4": raw.read()})
    frames: NDArray[Any] = movie["frames"]
    if len(frames) != int(movie["num_frames"]):
        check_decoded(raw.name, (int(movie["num_frames"]), *frames.shape[1:]), frames.itemsize)
    return frames


def _picture(raw: Raw) -> NDArray[Any]:
    """(h, w, 3): grey is repeated, alpha dropped."""
    from modalities.image.codec import decode as decode_image

    pixels = decode_image({"png": raw.read()})["image"]
    if pixels.shape[2] == 1:
        return np.repeat(pixels, 3, axis=2)
    return np.ascontiguousarray(pixels[..., :3])


def _normals(raw: Raw) -> NDArray[Any]:
    if raw.filename.endswith(".npy"):
        return npy.read(raw)
    pixels = _picture(raw)
    vectors = pixels.astype(np.float32) * (2 / np.iinfo(pixels.dtype).max) - 1
    length = np.linalg.norm(vectors, axis=2, keepdims=True)
    return np.where(pixels.any(axis=2, keepdims=True), vectors / np.maximum(length, 1e-6), np.float32(0))


def _mask(raw: Raw) -> NDArray[np.bool_]:
    """Brighter than half is object."""
    if raw.filename.endswith(".npy"):
        return npy.read(raw)
    pixels = _picture(raw)
    return np.asarray(pixels.max(axis=2) > np.iinfo(pixels.dtype).max // 2)


def _mask_png(mask: NDArray[np.bool_]) -> bytes:
    from modalities.image.codec import encode as encode_image

    return encode_image({"image": mask.astype(np.uint8)[..., None] * np.uint8(255)})["png"]
