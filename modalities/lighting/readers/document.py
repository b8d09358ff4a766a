"""lighting.json: read with every field checked, and written so that nothing is lost."""

import json
from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from modalities.base import Arrays, BadSample, Raw
from modalities.lighting.readers import headers
from modalities.lighting.schema import (
    AXES,
    FORMAT,
    MAX_DOCUMENT_BYTES,
    MAX_FRAMES,
    TRANSFERS,
    VERSION,
    Layout,
)

FACTS = ("camera", "material", "scene")


def read(raw: Raw) -> Layout:
    """Layout of the sample that the document `raw` describes, sizes taken from the headers beside it."""
    fields = _parse(raw)
    for key, want in (("format", FORMAT), ("version", VERSION), ("axes", AXES)):
        if fields.get(key) != want:
            raise BadSample(
                "unknown-version", f"{raw.name}: {key} must be {want!r}, got {str(fields.get(key))[:60]!r}"
            )
    if fields.get("transfer") not in TRANSFERS:
        _refuse(raw, "transfer", f"one of {TRANSFERS}", fields.get("transfer"))
    lights, intensity = _lights(raw, fields)
    frames, whole = _frames(raw, fields)
    shape, dtype = headers.frames(raw, frames, whole=whole, lights=len(lights))
    normals, mask = _file(raw, fields, "normals"), _file(raw, fields, "mask")
    headers.check_normals(raw, normals, shape)
    headers.check_mask(raw, mask, shape)
    facts = {}
    for key in FACTS:
        if fields.get(key) is not None:
            if not isinstance(fields[key], dict):
                _refuse(raw, key, "an object", fields[key])
            facts[key] = fields[key]
    environment = fields.get("environment")
    return Layout(
        frames=frames,
        whole=whole,
        shape=shape,
        dtype=dtype,
        lights=lights,
        intensity=intensity,
        transfer=fields["transfer"],
        times=_times(raw, fields, len(lights)),
        normals=normals,
        mask=mask,
        environment=None
        if environment is None
        else _numbers(raw, "environment", environment, (len(lights), 9, 3)),
        facts=facts,
    )


def write(arrays: Arrays, *, frames: str, normals: str | None, mask: str | None) -> bytes:
    """The document of a sample whose arrays lie in the files named."""
    lights, intensity = arrays["lights"], arrays["intensity"]
    fields: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "axes": AXES,
        "transfer": str(arrays["transfer"]),
        "frames": frames,
        "lights": [
            {"direction": row, "intensity": colour}
            for row, colour in zip(lights.tolist(), intensity.tolist(), strict=True)
        ],
        "normals": normals,
        "mask": mask,
        **{key: json.loads(str(arrays[key])) for key in FACTS if key in arrays},
        **{key: arrays[key].tolist() for key in ("times", "environment") if key in arrays},
    }
    return canonical(fields).encode()


def canonical(facts: Any) -> str:
    """JSON with one spelling: sorted keys, no spaces, no NaN."""
    return json.dumps(facts, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _parse(raw: Raw) -> dict[str, Any]:
    if raw.size > MAX_DOCUMENT_BYTES:
        raise BadSample("too-large", f"{raw.name} is {raw.size:,} bytes, more than {MAX_DOCUMENT_BYTES:,}")
    if raw.size == 0:
        raise BadSample("empty", f"{raw.name} has no bytes")

    def constant(text: str) -> NoReturn:
        raise ValueError(f"{text} is not JSON")

    def number(text: str) -> float:
        value = float(text)
        return value if np.isfinite(value) else constant(text)

    try:
        fields = json.loads(raw.read().decode("utf-8"), parse_constant=constant, parse_float=number)
    except (ValueError, RecursionError) as error:
        raise BadSample("bad-json", f"{raw.name}: {str(error)[:200]}") from error
    if not isinstance(fields, dict):
        raise BadSample("bad-json", f"{raw.name} holds a {type(fields).__name__}; want an object")
    return fields


def _lights(raw: Raw, fields: Mapping[str, Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rows = fields.get("lights")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        _refuse(raw, "lights", "a list of objects", rows)
    if not 1 <= len(rows) <= MAX_FRAMES:
        code = "too-large" if rows else "no-frames"
        raise BadSample(code, f"{raw.name} has {len(rows)} lights; want 1 to {MAX_FRAMES:,}")
    white = [1.0, 1.0, 1.0]
    lights = _numbers(raw, "lights.direction", [row.get("direction") for row in rows], (len(rows), 3))
    intensity = _numbers(
        raw, "lights.intensity", [row.get("intensity", white) for row in rows], (len(rows), 3)
    )
    headers.check_lights(raw.name, lights)
    return lights, intensity


def _frames(raw: Raw, fields: Mapping[str, Any]) -> tuple[tuple[str, ...], bool]:
    names = fields.get("frames")
    if isinstance(names, str):
        return (names,), True
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        _refuse(raw, "frames", "a file name or a list of them", names)
    if not names:
        raise BadSample("no-frames", f"{raw.name} names no frame")
    if len(set(names)) != len(names):
        _refuse(raw, "frames", "each file once", names)
    return tuple(names), False


def _times(raw: Raw, fields: Mapping[str, Any], t: int) -> NDArray[np.float64] | None:
    if fields.get("times") is not None:
        return _numbers(raw, "times", fields["times"], (t,))
    fps = fields.get("fps")
    if fps is None:
        return None
    if isinstance(fps, bool) or not isinstance(fps, int | float) or not 1e-6 <= fps <= 1e6:
        _refuse(raw, "fps", "a number of frames a second", fps)
    return np.arange(t) / float(fps)


def _numbers(raw: Raw, key: str, value: Any, shape: tuple[int, ...]) -> NDArray[np.float64]:
    try:
        array = np.array(value)
    except (ValueError, OverflowError):
        array = np.array("ragged")
    if array.dtype.kind not in "iuf" or array.shape != shape:
        _refuse(raw, key, f"numbers of shape {shape}", value)
    return array.astype(np.float64)


def _file(raw: Raw, fields: Mapping[str, Any], key: str) -> str | None:
    name = fields.get(key)
    if name is not None and not isinstance(name, str):
        _refuse(raw, key, "a file name", name)
    return name


def _refuse(raw: Raw, key: str, want: str, got: object) -> NoReturn:
    raise BadSample("bad-field", f"{raw.name}: {key} must be {want}, got {str(got)[:80]!r}")
