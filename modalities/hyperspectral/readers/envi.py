"""ENVI: a text header and a flat binary body beside it, memory-mapped."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modalities.base import BadSample, Meta, Raw
from modalities.hyperspectral.georef import from_map_info
from modalities.hyperspectral.schema import Facts, Scene, Window
from modalities.hyperspectral.spectral import numbers, to_nm

SUFFIXES = (".hdr",)
BODIES = ("", ".img", ".dat", ".bil", ".bip", ".bsq", ".raw", ".cube", ".bin")  # after the header's stem
MAX_HEADER = 2**23
DTYPES = {
    1: "u1",
    2: "i2",
    3: "i4",
    4: "f4",
    5: "f8",
    6: "c8",
    9: "c16",
    12: "u2",
    13: "u4",
    14: "i8",
    15: "u8",
}


def matches(head: bytes) -> bool:
    """The first line is `ENVI`."""
    return head[:4] == b"ENVI" and head[4:5] in (b"\r", b"\n", b" ", b"")


def parse(text: bytes) -> dict[str, str]:
    """Header -> {lower-case key: value without braces}; a value in braces may span lines."""
    found: dict[str, str] = {}
    open_key = ""
    for line in text.decode("utf-8", "replace").splitlines()[1:]:
        if open_key:
            found[open_key] += "\n" + line.partition("}")[0]
            open_key = "" if "}" in line else open_key
            continue
        key, equals, value = line.partition("=")
        name = " ".join(key.lower().split())
        if not equals or name.startswith(";"):
            continue
        value = value.strip()
        if value.startswith("{"):
            open_key = "" if "}" in value else name
            value = value[1:].partition("}")[0]
        found[name] = value
    return {name: value.strip() for name, value in found.items()}


def _facts(raw: Raw) -> tuple[Facts, Raw, int]:
    """-> facts, body, bytes before the first value."""
    if raw.size > MAX_HEADER:
        raise BadSample("too-large", f"an ENVI header of {raw.size:,} bytes; want at most {MAX_HEADER:,}")
    header = parse(raw.read())
    shape = _whole(header, "lines"), _whole(header, "samples"), _whole(header, "bands")
    code, start = _whole(header, "data type"), _whole(header, "header offset", 0)
    interleave = header.get("interleave", "bsq").lower()
    if code not in DTYPES or interleave not in ("bsq", "bil", "bip"):
        wanted = f"data type in {sorted(DTYPES)}, interleave bsq, bil or bip"
        raise BadSample("unsupported", f"want {wanted}; got {code}, {interleave!r}")
    if _whole(header, "file compression", 0) or "library" in header.get("file type", "").lower():
        raise BadSample(
            "unsupported", "want an uncompressed ENVI image, got a compressed file or a spectral library"
        )
    dtype = np.dtype(DTYPES[code]).newbyteorder(">" if _whole(header, "byte order", 0) else "<")
    size = start + int(np.prod([int(n) for n in shape], dtype=object)) * dtype.itemsize
    body = _body(raw, header.get("data file", ""), size)
    facts = Facts(
        format="envi",
        shape=shape,
        dtype=dtype,
        interleave=interleave,
        **_spectral(header),
        **_place(header),
        more={"body": body.name},
    )
    return facts.checked(body.size), body, start


def _whole(header: Mapping[str, str], key: str, default: int | None = None) -> int:
    value = header.get(key, "" if default is None else str(default))
    if not re.fullmatch(r"\d{1,12}", value):
        raise BadSample("corrupt", f"want a whole number for {key!r} in the ENVI header, got {value[:40]!r}")
    return int(value)


def _body(raw: Raw, named: str, wanted: int) -> Raw:
    """The body beside the header, of exactly the claimed size."""
    if named and (set(named) & set("/\\:\0") or named.startswith(".")):
        raise BadSample("unsafe", f"`data file` must name a file beside the header, got {named[:80]!r}")
    stem = raw.filename.removesuffix(".hdr")
    names = [named.lower(), *(stem + suffix for suffix in BODIES)]
    here = {name.lower(): name for name in raw.companions if name.lower() != raw.filename}
    bodies = [raw.companion(here[name]) for name in names if name in here]
    if not bodies:
        raise BadSample("missing-companion", f"want one of {names[1:]} beside {raw.name}, got {sorted(here)}")
    body = next((body for body in bodies if body.size == wanted), bodies[0])
    if body.size != wanted:
        reason = "truncated" if body.size < wanted else "corrupt"
        raise BadSample(
            reason, f"the header of {raw.name} claims {wanted:,} bytes, {body.name} has {body.size:,}"
        )
    return body


def _spectral(header: Mapping[str, str]) -> dict[str, Any]:
    """Wavelengths, widths, bad bands and scaling. `reflectance scale factor` divides, gains multiply."""
    widths = numbers(header["fwhm"]) if "fwhm" in header else None
    centres, widths = to_nm(numbers(header.get("wavelength", "")), header.get("wavelength units"), widths)
    found: dict[str, Any] = {"wavelengths": centres, "fwhm": widths}
    if "bbl" in header:
        found["bad_bands"] = [value == 0 for value in numbers(header["bbl"])]
    if divisor := numbers(header.get("reflectance scale factor", ""))[:1]:
        found["scale"] = 1 / divisor[0] if divisor[0] else None
    if gains := numbers(header.get("data gain values", "")):
        found["scale"] = gains
    if offsets := numbers(header.get("data offset values", "")):
        found["offset"] = offsets
    ignored = header.get("data ignore value", "").strip().lower()
    if ignored in ("nan", "-nan"):
        found["nodata"] = float("nan")
    elif value := numbers(ignored)[:1]:
        found["nodata"] = value[0]
    return found


def _place(header: Mapping[str, str]) -> dict[str, Any]:
    crs, affine = from_map_info(header.get("map info", ""))
    wkt = header.get("coordinate system string", "")
    return {"crs": crs or wkt or None, "affine": affine}


def probe(raw: Raw) -> Meta:
    """Header and size of the body; BadSample."""
    return _facts(raw)[0].meta()


@contextmanager
def open(raw: Raw) -> Iterator[Scene]:
    """Windows touch only the pages they need."""
    facts, body, start = _facts(raw)
    order = {"bip": (0, 1, 2), "bil": (0, 2, 1), "bsq": (2, 0, 1)}[facts.interleave or "bsq"]
    shape = tuple(facts.shape[axis] for axis in order)
    flat: NDArray[Any]
    if isinstance(body.content, Path):
        flat = np.memmap(body.content, facts.dtype, "r", offset=start, shape=shape)
    else:
        flat = np.frombuffer(body.content, facts.dtype, offset=start).reshape(shape)
    cube = flat.transpose(np.argsort(order))

    def read(window: Window) -> NDArray[Any]:
        return cube[window.y : window.y + window.height, window.x : window.x + window.width]

    yield Scene(facts=facts, read=read)
