"""Sizes and types of the files beside a description, and whether they agree."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from modalities.base import BadSample, Raw, check_decoded
from modalities.lighting.readers import npy
from modalities.lighting.schema import MAX_FRAMES, MAX_SIDE, UNIT_TOLERANCE

if TYPE_CHECKING:
    from modalities.image.schema import Header

Shape = tuple[int, int, int]  # t, h, w


def check_lights(name: str, lights: NDArray[np.float64]) -> None:
    """Refuse rows (t, 3) that are not unit directions."""
    with np.errstate(over="ignore", invalid="ignore"):
        length = np.sqrt((lights**2).sum(axis=1))
    bad = np.flatnonzero(~(np.abs(length - 1) <= UNIT_TOLERANCE))
    if bad.size:
        row = int(bad[0])
        raise BadSample(
            "bad-light",
            f"{name}: direction {row} is {lights[row].tolist()}, one of {bad.size} "
            f"bad rows, of length {length[row]:.6g}; want unit vectors",
        )


def companion(raw: Raw, name: str) -> Raw:
    """The file `name` in the folder of `raw`; case does not matter, as shards have lower case only."""
    found = {n.lower(): n for n in raw.companions}.get(name.lower())
    if found is None:
        raise BadSample("missing-file", f"{raw.name} names {name!r}; there are {sorted(raw.companions)[:20]}")
    return raw.companion(found)


def frames(
    raw: Raw, names: tuple[str, ...], *, whole: bool, lights: int
) -> tuple[Shape, np.dtype[np.generic]]:
    """(t, h, w) and type of all frames, which must agree and be as many as there are lights."""
    if len(names) > MAX_FRAMES:
        raise BadSample("too-large", f"{raw.name} names {len(names):,} frames, more than {MAX_FRAMES:,}")
    found = {}
    for name in names:
        found[name] = _video(companion(raw, name), lights) if whole else _frame(companion(raw, name))
    shape, dtype = found[names[0]]
    for name, (other, other_type) in found.items():
        if (other, other_type) != (shape, dtype):
            raise BadSample(
                "shape-mismatch", f"{names[0]} is {shape} {dtype}, {name} is {other} {other_type}"
            )
    t = shape[0] if whole else len(names)
    if t != lights:
        raise BadSample("light-count", f"{raw.name} has {lights} lights for {t} frames")
    height, width = shape[1:]
    if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE):
        raise BadSample(
            "too-large" if height and width else "no-frames", f"{names[0]} is {height} x {width} pixels"
        )
    check_decoded(f"frames of {raw.name}", (t, height, width, 3), dtype.itemsize)
    return (t, height, width), dtype


def _frame(raw: Raw) -> tuple[Shape, np.dtype[np.generic]]:
    if raw.filename.endswith(".npy"):
        header = npy.read_header(raw)
        return _pixels(raw, (1, *header.shape), header.dtype)
    if raw.filename.endswith(".png"):
        picture = _picture(raw)
        return (1, *picture.displayed), np.dtype(picture.dtype)
    raise BadSample("bad-field", f"frame {raw.name} must be a .png or an .npy")


def _picture(raw: Raw) -> "Header":
    from modalities.image.probe import read_header

    return read_header(raw)


def _video(raw: Raw, lights: int) -> tuple[Shape, np.dtype[np.generic]]:
    if raw.filename.endswith(".npy"):
        header = npy.read_header(raw)
        return _pixels(raw, header.shape, header.dtype)
    if raw.filename.endswith(".mp4"):
        from modalities.video.probe import probe

        meta = probe(raw)  # files that do not say how many frames they hold are counted when decoded
        t = lights if meta["num_frames"] is None else int(meta["num_frames"])
        return (t, int(meta["height"]), int(meta["width"])), np.dtype(np.uint8)
    raise BadSample("bad-field", f"frames {raw.name} must be an .npy or an .mp4")


def _pixels(
    raw: Raw, shape: tuple[int, ...], dtype: np.dtype[np.generic]
) -> tuple[Shape, np.dtype[np.generic]]:
    if (
        len(shape) != 4
        or shape[3] != 3
        or dtype.newbyteorder("=") not in (np.uint8, np.uint16, np.float32, np.float64)
    ):
        raise BadSample(
            "shape-mismatch", f"{raw.name} is {shape} {dtype}; want RGB of uint8, uint16, float32 or float64"
        )
    return (shape[0], shape[1], shape[2]), dtype.newbyteorder("=")


def check_normals(raw: Raw, name: str | None, shape: Shape) -> None:
    """Normals (h, w, 3) or (t, h, w, 3) that fit frames of `shape`; a PNG has one for all frames."""
    if name is None:
        return
    file = companion(raw, name)
    if file.filename.endswith(".png"):
        picture = _picture(file)
        got: tuple[int, ...] = (*picture.displayed, picture.channels)
    else:
        header = npy.read_header(file)
        got = header.shape if header.dtype.kind == "f" else ()
    if got not in ((*shape[1:], 3), (*shape, 3)):
        raise BadSample(
            "shape-mismatch", f"{file.name} is {got} beside frames {shape}; want one normal a pixel"
        )


def check_mask(raw: Raw, name: str | None, shape: Shape) -> None:
    """A mask (h, w) or (t, h, w) that fits frames of `shape`."""
    if name is None:
        return
    file = companion(raw, name)
    if file.filename.endswith(".png"):
        picture = _picture(file)
        got: tuple[int, ...] = picture.displayed
    else:
        header = npy.read_header(file)
        got = header.shape if header.dtype == np.bool_ else ()
    if got not in (shape[1:], shape):
        raise BadSample(
            "shape-mismatch", f"{file.name} is {got} beside frames {shape}; want one value a pixel"
        )
