import json
from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modalities.base import BadSample, Files, Raw
from modalities.lighting import MODALITY
from modalities.lighting.codec import decode
from modalities.lighting.probe import pack, probe
from modalities.lighting.synth import synth

Folder = Callable[[Files], Raw]
GOOD = synth(0, size=8, frames=3, motion="still")


def npy(array: np.ndarray) -> bytes:
    np.save(out := BytesIO(), array)
    return out.getvalue()


def stereo(**files: bytes) -> Raw:
    beside = {"a_000.npy": npy(np.ones((4, 5, 3))), "a_002.npy": npy(np.ones((4, 5, 3)))}
    beside |= {name.replace("__", "."): data for name, data in files.items()}
    lights = beside.pop("lights.npy", npy(np.eye(3)))
    return Raw(name="x/lights.npy", content=lights, companions=beside)


def edited(**fields: Any) -> Files:
    document = json.loads(GOOD["lighting.json"]) | fields
    return {**GOOD, "lighting.json": json.dumps(document).encode()}


def test_facts_come_from_headers_alone(folder: Folder) -> None:
    meta = probe(folder(GOOD))
    assert json.loads(json.dumps(meta)) == meta
    assert (meta["layout"], meta["num_frames"], meta["height"], meta["width"]) == ("document", 3, 8, 8)
    assert (meta["material"], meta["fps"], meta["dtype"]) == (GOOD["cls"].decode(), 8.0, "uint8")


def test_frames_find_their_lights_by_number() -> None:
    raw = stereo()
    assert probe(raw)["num_frames"] == 2
    np.testing.assert_array_equal(decode(pack(raw, {}))["lights"], np.eye(3)[[0, 2]])


def test_the_bunny_is_recognised(bunny: Raw) -> None:
    meta = probe(bunny)
    assert (meta["layout"], meta["num_frames"], meta["height"], meta["dtype"]) == (
        "stereo",
        8,
        256,
        "float64",
    )
    assert meta["normals"]
    assert meta["mask"]


LIGHT = {"direction": [0.0, 0.0, 1.0]}
BROKEN = {
    "bad-light": ({"lights": [LIGHT, {"direction": [0, 0, 1.01]}, LIGHT]}, "direction 1 .*length 1.01"),
    "light-count": (
        {"lights": [LIGHT, LIGHT], "times": [0, 1], "environment": None},
        "2 lights for 3 frames",
    ),
    "unknown-version": ({"version": 2}, "version must be 1, got '2'"),
    "missing-file": ({"normals": "n.npy"}, r"names 'n.npy'; there are \[.*normals.npy"),
    "no-frames": ({"frames": []}, "names no frame"),
    "bad-field": ({"transfer": "log"}, "transfer must be one of .* got 'log'"),
}


@pytest.mark.parametrize("reason", BROKEN)
def test_a_broken_document_is_refused_with_its_reason(folder: Folder, reason: str) -> None:
    fields, detail = BROKEN[reason]
    with pytest.raises(BadSample, match=detail) as caught:
        probe(folder(edited(**fields)))
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("fields", "detail"),
    [
        ({"axes": "x-right y-down z-forward"}, "axes must be 'x-right y-up z-viewer'"),
        ({"lights": [{"direction": "up"}] * 3}, "lights.direction must be numbers"),
        ({"lights": {}}, "lights must be a list"),
        ({"times": [0, 1]}, r"times must be numbers of shape \(3,\)"),
        ({"times": None, "fps": True}, "fps must be a number"),
        ({"camera": []}, "camera must be an object"),
        ({"mask": 3}, "mask must be a file name"),
        ({"environment": [[1]]}, "environment must be numbers"),
    ],
)
def test_a_wrong_field_is_named(folder: Folder, fields: dict[str, Any], detail: str) -> None:
    with pytest.raises(BadSample, match=detail):
        probe(folder(edited(**fields)))


@pytest.mark.parametrize("text", [b"{", b"[]", b'{"a": NaN}', b'{"a": 1e999}', b"\xff", b"[" * 100_000])
def test_what_is_not_json_is_refused(folder: Folder, text: bytes) -> None:
    with pytest.raises(BadSample) as caught:
        probe(folder({**GOOD, "lighting.json": text}))
    assert caught.value.reason == "bad-json"


NAN = np.eye(3)
NAN[1, 1] = np.nan


@pytest.mark.parametrize(
    ("files", "reason", "detail"),
    [
        ({"lights__npy": npy(NAN)}, "bad-light", "direction 1"),
        ({"lights__npy": npy(np.eye(3) * 1.002)}, "bad-light", "direction 0"),
        ({"lights__npy": npy(np.eye(3)[:2])}, "light-count", "a_002.npy wants row 2 .* has 2"),
        ({"lights__npy": npy(np.ones((3, 4)))}, "bad-field", r"must be \(n, 3\)"),
        ({"lights__npy": b""}, "empty", "no bytes"),
        ({"b_002__npy": npy(np.ones((4, 5, 3)))}, "light-count", "both claim row 2"),
        ({"b_001__npy": npy(np.ones((4, 6, 3)))}, "shape-mismatch", "a_000.npy is .* b_001.npy is"),
        ({"b_001__npy": npy(np.ones((4, 5, 3), np.float32))}, "shape-mismatch", "float64.*float32"),
        ({"b_001__npy": npy(np.ones((4, 5)))}, "shape-mismatch", "want RGB"),
        ({"gt_normal__npy": npy(np.ones((5, 4, 3)))}, "shape-mismatch", "want one normal a pixel"),
        ({"A_000__npy": npy(np.ones((4, 5, 3)))}, "light-count", "both claim row 0"),
        ({"a b__npy": b""}, "bad-name", "cannot be an extension"),
    ],
)
def test_a_broken_folder_is_refused_with_its_reason(
    files: dict[str, bytes], reason: str, detail: str
) -> None:
    with pytest.raises(BadSample, match=detail) as caught:
        probe(stereo(**files))
    assert caught.value.reason == reason


def header(text: str, body: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + body


@pytest.mark.parametrize(
    "data",
    [
        npy(np.ones((4, 5, 3)))[:-1],
        npy(np.ones((4, 5, 3))) + b"x",
        header("{'descr': '|O', 'fortran_order': False, 'shape': (4, 5, 3), }", bytes(480)),
        header("{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (60,), }", bytes(480)),
        header("{'descr': '<f8', 'fortran_order': False, 'shape': (-4, -15), }", bytes(480)),
        header("{'descr': '<f8', 'fortran_order': False, 'shape': (True, 60), }", bytes(480)),
        header("__import__('os').getpid()"),
        header("(" * 2000),
        b"\x93NUMPY\x01\x00\xff\xff{",
        b"\x93NUMPY\x09\x00" + bytes(100),
        b"nothing of the kind",
    ],
)
def test_a_broken_npy_is_refused(data: bytes) -> None:
    with pytest.raises(BadSample) as caught:
        probe(stereo(a_000__npy=data))
    assert caught.value.reason == "bad-npy"


@pytest.mark.parametrize("shape", [(2**31, 2**31, 3), (2**14, 2**14, 3)])
def test_a_header_that_promises_too_much_is_refused(shape: tuple[int, ...]) -> None:
    text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}"
    with pytest.raises(BadSample) as caught:
        probe(stereo(a_000__npy=header(text)))
    assert caught.value.reason == "too-large"


@settings(max_examples=150)
@given(st.data())
def test_damage_is_a_bad_sample_or_still_decodes(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(set(GOOD) - {"cls"})))
    content = bytearray(GOOD[name])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, min(len(content), 600) - 1))] = data.draw(st.integers(0, 255))
    files = {**GOOD, name: bytes(content)}
    beside = {n: c for n, c in files.items() if n not in ("lighting.json", "cls")}
    try:
        probe(Raw(name="lighting.json", content=files["lighting.json"], companions=beside))
        arrays = decode(files)
    except BadSample:
        return
    assert MODALITY.decode(MODALITY.encode(arrays)).keys() == arrays.keys()
