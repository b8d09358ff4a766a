import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest

from modalities.base import Arrays, Files, Raw
from modalities.lighting import MODALITY
from modalities.lighting.codec import decode, encode
from modalities.lighting.probe import pack, probe
from modalities.lighting.synth import synth

Folder = Callable[[Files], Raw]
RNG = np.random.default_rng(0)


def same(a: Arrays, b: Arrays) -> None:
    assert set(a) == set(b)
    for key in a:
        assert a[key].dtype == b[key].dtype, key
        np.testing.assert_array_equal(a[key], b[key], err_msg=key)


def document(t: int, **fields: object) -> bytes:
    direction = [0.6, 0.0, 0.8]
    facts = {
        "format": "rayloom-lighting",
        "version": 1,
        "axes": "x-right y-up z-viewer",
        "transfer": "linear",
        "frames": [f"frame_{i:03d}.png" for i in range(t)],
        "lights": [{"direction": direction}] * t,
    }
    return json.dumps(facts | fields).encode()


def npy(array: np.ndarray) -> bytes:
    np.save(out := BytesIO(), array)
    return out.getvalue()


def png(rgb: np.ndarray) -> bytes:
    return cv2.imencode(".png", rgb[..., ::-1] if rgb.ndim == 3 else rgb)[1].tobytes()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("hdr", [False, True])
def test_nothing_is_lost_on_the_way_through_bytes(seed: int, hdr: bool) -> None:
    once = decode(synth(seed, size=16, hdr=hdr))
    files = encode(once)
    same(decode(files), once)
    assert encode(decode(files)) == files
    assert set(once) <= set(MODALITY.axes)


def test_the_bunny_comes_through_byte_for_byte(bunny: Raw) -> None:
    files = pack(bunny, probe(bunny))
    assert set(files) == {"lights.npy", *bunny.companions}
    for name, path in bunny.companions.items():
        assert isinstance(path, Path)
        assert files[name] == path.read_bytes()
    assert files["lights.npy"] == bunny.read()


def test_the_bunny_decodes_to_what_numpy_and_opencv_read(bunny: Raw) -> None:
    arrays = decode(pack(bunny, probe(bunny)))
    assert isinstance(bunny.content, Path)
    root = bunny.content.parent
    rows = range(0, 48, 6)
    frames = np.stack([np.load(root / f"specular_{row:03d}.npy") for row in rows])
    np.testing.assert_array_equal(arrays["frames"], frames)
    assert arrays["frames"].dtype == np.float64
    np.testing.assert_array_equal(arrays["lights"], np.load(root / "lights.npy")[list(rows)])
    np.testing.assert_array_equal(arrays["normals"], np.load(root / "gt_normal.npy"))
    mask = cv2.imread(str(root / "mask.png"), cv2.IMREAD_GRAYSCALE)
    np.testing.assert_array_equal(arrays["mask"], mask > 127)
    same(decode(encode(arrays)), arrays)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_png_frames_are_what_opencv_wrote(folder: Folder, dtype: str) -> None:
    frames = RNG.integers(0, np.iinfo(dtype).max, (2, 5, 7, 3), dtype=dtype, endpoint=True)
    files = {f"frame_{i:03d}.png": png(frame) for i, frame in enumerate(frames)}
    files["lighting.json"] = document(2, fps=10)
    raw = folder(files)
    assert probe(raw)["dtype"] == dtype
    arrays = decode(pack(raw, probe(raw)))
    np.testing.assert_array_equal(arrays["frames"], frames)
    np.testing.assert_array_equal(arrays["times"], [0, 0.1])
    np.testing.assert_array_equal(arrays["intensity"], np.ones((2, 3)))
    same(decode(encode(arrays)), arrays)


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", "|u1", "<u2"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_frames_are_what_numpy_wrote(dtype: str, order: str) -> None:
    frames = np.asarray(RNG.uniform(0, 200, (4, 6, 3)).astype(dtype), order=order)
    files = {"frame_0.npy": npy(frames), "lighting.json": document(1, frames=["frame_0.npy"])}
    got = decode(files)["frames"]
    np.testing.assert_array_equal(got[0], frames)
    assert got.dtype == frames.dtype.newbyteorder("=")


def test_a_video_is_read_with_its_lights(folder: Folder) -> None:
    from modalities.video.codec import encode as encode_video

    frames = RNG.integers(0, 255, (3, 32, 48, 3), dtype=np.uint8)
    movie = encode_video({"frames": frames, "times": np.arange(3) / 8})
    files = {"video.mp4": movie["mp4"], "lighting.json": document(3, frames="video.mp4", transfer="srgb")}
    raw = folder(files)
    assert probe(raw)["num_frames"] == 3
    arrays = decode(pack(raw, probe(raw)))
    np.testing.assert_array_equal(arrays["frames"], frames)
    assert str(arrays["transfer"]) == "srgb"


def test_normals_from_a_picture_are_unit_and_zero_in_the_background() -> None:
    normals = np.zeros((4, 4, 3), np.float32)
    normals[1, 2], normals[3, 0] = (0.6, 0, 0.8), (0, -0.6, 0.8)
    coded = np.where(normals.any(axis=2, keepdims=True), np.rint((normals + 1) / 2 * 65535), 0).astype(
        np.uint16
    )
    files = {"normals.png": png(coded), "frame_000.png": png(np.zeros((4, 4, 3), np.uint8))}
    files["lighting.json"] = document(1, normals="normals.png")
    np.testing.assert_allclose(decode(files)["normals"], normals, atol=5e-5)


def test_facts_survive_as_they_were_written() -> None:
    facts = {"camera": {"field_of_view": 0.1}, "material": {"name": "é\u0000", "x": [1, None]}, "scene": {}}
    files = {"frame_000.png": png(np.zeros((2, 2, 3), np.uint8)), "lighting.json": document(1, **facts)}
    arrays = decode(encode(decode(files)))
    assert {key: json.loads(str(arrays[key])) for key in facts} == facts


def test_labels_in_the_sample_are_left_alone() -> None:
    files = synth(1, size=8)
    assert files["cls"] in (b"diffuse", b"metal", b"plastic", b"glass")
    same(decode({**files, "txt": b"a caption"}), decode(files))


def test_arrays_that_do_not_fit_are_named() -> None:
    arrays = dict(decode(synth(1, size=8)))
    with pytest.raises(ValueError, match=r"lights must be .*\(6, 3\)"):
        encode({**arrays, "lights": arrays["lights"][:2]})
    with pytest.raises(ValueError, match="direction 1 is"):
        encode({**arrays, "lights": arrays["lights"] * np.array([[1], [2], [1], [1], [1], [1]])})
    with pytest.raises(ValueError, match="transfer must be one of"):
        encode({**arrays, "transfer": np.array("log")})
    with pytest.raises(ValueError, match="frames must be"):
        encode({**arrays, "frames": arrays["frames"].astype(np.int64)})
