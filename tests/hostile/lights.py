"""Hostile lighting folders."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from hostile.case import Case, Place, builders, pickled, stored

theirs = builders("modalities/lighting/test_probe.py")
Content = bytes | Callable[[Place], bytes]


def case(name: str, about: str, reason: str, files: Mapping[str, Content], library: str, file: str) -> Case:
    def make(place: Place) -> None:
        for path, content in files.items():
            stored(f"scene/{'lighting.cls' if path == 'cls' else path}", content)(place)

    return Case(
        name=name, about=about, modality="lighting", reason=reason, library=library, make=make,
        file=f"scene/{file}",
    )  # fmt: skip


def document(name: str, about: str, reason: str, **fields: Any) -> Case:
    return case(name, about, reason, theirs.edited(**fields), "json", "lighting.json")


def stereo(name: str, about: str, reason: str, file: str, content: Content) -> Case:
    good: dict[str, Content] = {f"a_{i:03}.npy": theirs.npy(np.ones((4, 5, 3))) for i in (0, 2)}
    files = {"lights.npy": theirs.npy(np.eye(3)), **good, file: content}
    return case(name, about, reason, files, "NumPy", file)


def objects(place: Place) -> bytes:
    header: bytes = theirs.header(
        "{'descr': '|O', 'fortran_order': False, 'shape': (1, 1, 3), }", pickled(place)
    )
    return header


def outside(place: Place) -> bytes:
    fields = {"normals": "../../outside/canary"}
    content: bytes = theirs.edited(**fields)["lighting.json"]
    return content


def absolute(place: Place) -> bytes:
    content: bytes = theirs.edited(normals=str(place.canary))["lighting.json"]
    return content


def linked(place: Place) -> None:
    for path, content in theirs.GOOD.items():
        stored(f"scene/{'lighting.cls' if path == 'cls' else path}", content)(place)
    frame = json.loads(theirs.GOOD["lighting.json"])["frames"]
    name = frame if isinstance(frame, str) else frame[0]
    (place.root / "scene" / name).unlink()
    (place.root / "scene" / name).symlink_to(place.canary)


def cases() -> list[Case]:
    good = theirs.GOOD
    huge = theirs.header("{'descr': '<f8', 'fortran_order': False, 'shape': (2147483648, 2147483648, 3), }")
    return [
        document("light-of-no-length", "a direction that is no unit vector", "bad-light",
                 lights=[{"direction": [0, 0, 9.0]}] * 3),
        document("version-2", "a version nobody has", "unknown-version", version=2),
        document("no-frames", "no frame", "no-frames", frames=[]),
        document("words", "words for a direction", "bad-field", lights=[{"direction": "up"}] * 3),
        document("axes", "another camera frame than ours", "unknown-version",
             axes="x-right y-down z-forward"),
        case("file-outside", "a file named ../../outside/canary", "missing-file",
             {**good, "lighting.json": outside}, "json",
             "lighting.json"),
        case("file-absolute", "a file named by its absolute path", "missing-file",
             {**good, "lighting.json": absolute}, "json",
             "lighting.json"),
        case("brackets", "100,000 brackets", "bad-json", {**good, "lighting.json": b"[" * 100_000}, "json",
             "lighting.json"),
        case("nan", "NaN for a number", "bad-json", {**good, "lighting.json": b'{"a": NaN}'}, "json",
             "lighting.json"),
        case("binary", "raw bytes", "bad-json", {**good, "lighting.json": b"\xff"}, "json", "lighting.json"),
        stereo("pickle", "a frame of objects, which is a pickle", "bad-npy", "a_000.npy", objects),
        stereo("lights-pickle", "lights that are a pickle", "bad-npy", "lights.npy", objects),
        stereo("code", "a header that is a call", "bad-npy", "a_000.npy",
             theirs.header("__import__('os').abort()")),
        stereo("brackets-npy", "a header of 2000 brackets", "bad-npy", "a_000.npy",
             theirs.header("(" * 2000)),
        stereo("2-31-square", "a frame of 2^31 x 2^31", "too-large", "a_000.npy", huge),
        stereo("cut", "a frame that lacks a byte", "bad-npy", "a_000.npy",
             theirs.npy(np.ones((4, 5, 3)))[:-1]),
        stereo("other-size", "a frame of another size", "shape-mismatch", "a_002.npy",
             theirs.npy(np.ones((4, 6, 3)))),
        stereo("no-lights", "lights of no bytes", "empty", "lights.npy", b""),
        Case(name="frame-link", about="a frame that is a link to another file", modality="lighting",
             reason="unsafe",
             library="Pillow", make=linked, file="scene/lighting.json"),
    ]  # fmt: skip
