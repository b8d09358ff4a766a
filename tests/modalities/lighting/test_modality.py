import json
import subprocess
import sys
from collections.abc import Callable
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from modalities.base import Arrays, Files, Raw
from modalities.lighting import MODALITY
from modalities.lighting.codec import decode
from modalities.lighting.cuts import extract, plan
from modalities.lighting.photometric import angular_error, solve_sample
from modalities.lighting.prepare import prepare
from modalities.lighting.preview import preview
from modalities.lighting.probe import pack, probe
from modalities.lighting.quality import fingerprint, quality
from modalities.lighting.render import MATERIALS, harmonics
from modalities.lighting.synth import synth
from modalities.lighting.transforms import TRANSFORMS, flip, resize, tonemap_frames

Folder = Callable[[Files], Raw]


@pytest.fixture(
    scope="module", params=[dict(motion="orbit"), dict(motion="still", hdr=True)], ids=["moving", "still"]
)
def arrays(request: pytest.FixtureRequest) -> Arrays:
    return decode(synth(2, light="moving", shape="torus", **request.param))


def test_synthesis_depends_only_on_the_seed_and_covers_all_materials() -> None:
    assert synth(5, size=12) == synth(5, size=12)
    assert {synth(seed, size=4, frames=1)["cls"].decode() for seed in range(24)} == set(MATERIALS)


def test_synthesis_is_the_same_in_another_process() -> None:
    code = "import modalities.lighting as m, zlib; print(zlib.crc32(repr(m.MODALITY.synth(3)).encode()))"
    runs = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout for _ in range(2)
    }
    assert len(runs) == 1


def test_flipping_twice_is_the_original(arrays: Arrays) -> None:
    twice = flip(flip(arrays))
    assert set(twice) == set(arrays)
    for key in arrays:
        np.testing.assert_array_equal(twice[key], arrays[key], err_msg=key)
    assert json.loads(str(flip(arrays)["camera"]))["mirrored"]


def test_a_flipped_sample_still_obeys_its_light() -> None:
    sample = decode(
        synth(
            4,
            frames=12,
            shape="ellipsoid",
            material="diffuse",
            motion="still",
            light="moving",
            surroundings=False,
            hdr=True,
        )
    )
    for changed in (sample, flip(sample)):
        normals, _ = solve_sample(changed, shadow=0.01)
        solved = normals.any(axis=2)
        assert solved.mean() > 0.1
        assert angular_error(normals, changed["normals"], solved).mean() < 0.2
    half = {**flip(sample), "lights": sample["lights"]}  # a flip that forgets the lights
    normals, _ = solve_sample(half, shadow=0.01)
    assert angular_error(normals, half["normals"], normals.any(axis=2)).mean() > 5


def test_a_flipped_environment_is_the_mirrored_one(arrays: Arrays) -> None:
    directions = harmonics.fibonacci(50)
    mirrored = directions * np.array([[-1], [1], [1]])
    before = harmonics.radiance(arrays["environment"][0], mirrored)
    np.testing.assert_allclose(
        harmonics.radiance(flip(arrays)["environment"][0], directions), before, atol=1e-12
    )


def test_resizing_keeps_means_and_unit_normals(arrays: Arrays) -> None:
    small = resize(arrays, height=24, width=16)
    t = len(arrays["frames"])
    assert small["frames"].shape == (t, 24, 16, 3)
    assert small["frames"].dtype == arrays["frames"].dtype
    assert small["frames"].mean() == pytest.approx(arrays["frames"].mean(), rel=0.02)
    length = np.linalg.norm(small["normals"].astype(np.float64), axis=-1)
    assert (np.isclose(length, 1, atol=2e-3) | (length == 0)).all()
    assert small["mask"].mean() == pytest.approx(arrays["mask"].mean(), abs=0.01)
    np.testing.assert_array_equal(resize(arrays, height=48, width=48)["frames"], arrays["frames"])
    with pytest.raises(ValueError, match="at least 1, got 0"):
        resize(arrays, height=0, width=4)


def test_clipped_pictures_still_tell_radiance() -> None:
    linear = decode(synth(4, motion="still", hdr=True))
    shown = tonemap_frames(linear)
    assert shown["frames"].dtype == np.uint8
    assert str(shown["transfer"]) == "srgb"
    values = shown["frames"] / 255
    radiance = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    inside = (shown["frames"] > 20) & (shown["frames"] < 250)
    ratio = radiance[inside] / linear["frames"][inside]
    assert np.ptp(ratio) < 0.15 * ratio.mean()
    assert tonemap_frames(shown)["frames"] is not None
    np.testing.assert_array_equal(tonemap_frames(shown)["frames"], shown["frames"])
    assert str(tonemap_frames(linear, curve="soft")["transfer"]) == "display"
    with pytest.raises(ValueError, match="curve must be"):
        tonemap_frames(linear, curve="film")


def test_every_transform_gives_a_sample_that_can_be_written(arrays: Arrays) -> None:
    options = {"resize": {"height": 8, "width": 9}}
    for name, transform in TRANSFORMS.items():
        changed = transform(arrays, **options.get(name, {}))
        back = decode(MODALITY.encode(changed))
        assert set(back) == set(changed)


def test_prepared_clips_have_a_fixed_shape(arrays: Arrays, bunny: Raw) -> None:
    real = decode(pack(bunny, probe(bunny)))
    for sample in (arrays, real):
        for frames, size in ((4, 48), (11, 20), (1, 96)):
            out = prepare(sample, frames=frames, size=size, normals=True)
            assert out["video"].shape == (3, frames, size, size)
            assert out["video"].dtype == out["light"].dtype == out["normals"].dtype == np.float32
            assert out["light"].shape == (frames, 3)
            assert out["mask"].shape == (frames, size, size)
            assert out["normals"].shape == out["video"].shape
            assert 0 <= out["video"].min() <= out["video"].max() <= 1
            assert out["video"].std() > 0.05
            np.testing.assert_allclose(np.linalg.norm(out["light"], axis=1), 1, atol=1e-6)


def test_prepare_augments_only_with_a_generator_and_mirrors_the_light_along(arrays: Arrays) -> None:
    plain = prepare(arrays, frames=6)
    np.testing.assert_array_equal(plain["video"], prepare(arrays, frames=6)["video"])
    seen = set()
    for seed in range(12):
        out = prepare(arrays, frames=6, rng=np.random.default_rng(seed))
        again = prepare(arrays, frames=6, rng=np.random.default_rng(seed))
        np.testing.assert_array_equal(out["video"], again["video"])
        mirrored = np.allclose(out["light"], plain["light"] * [-1, 1, 1])
        straight = np.allclose(out["light"], plain["light"])
        assert mirrored != straight
        want = plain["mask"][..., ::-1] if mirrored else plain["mask"]
        np.testing.assert_array_equal(out["mask"], want)
        seen.add(mirrored)
    assert seen == {True, False}


def test_normals_that_are_not_there_are_refused() -> None:
    sample = {key: value for key, value in decode(synth(1, size=8)).items() if key != "normals"}
    assert "normals" not in prepare(sample)
    with pytest.raises(ValueError, match="the sample has none"):
        prepare(sample, normals=True)


@pytest.mark.parametrize("window", [1, 2, 4])
def test_windows_hold_their_frames_and_lights(folder: Folder, window: int) -> None:
    raw = folder(synth(2, size=12))
    whole = decode(pack(raw, probe(raw)))
    pieces = plan(raw, probe(raw), window=window)
    assert len(pieces) == 6 // window
    for piece in pieces:
        part = decode(extract(raw, probe(raw), piece.spec, window=window))
        span = slice(piece.spec["start"], piece.spec["stop"])
        for key in ("frames", "lights", "intensity", "times", "environment"):
            np.testing.assert_array_equal(part[key], whole[key][span])
        json.dumps(piece.spec)


def test_windows_of_a_folder_keep_its_files(bunny: Raw) -> None:
    meta = probe(bunny)
    pieces = plan(bunny, meta, window=3, stride=2)
    assert [piece.suffix for piece in pieces] == ["f00000", "f00002", "f00004"]
    files, whole = extract(bunny, meta, pieces[1].spec, window=3, stride=2), pack(bunny, meta)
    kept = {f"specular_{row:03d}.npy" for row in (12, 18, 24)}
    assert set(files) == {"lights.npy", "gt_normal.npy", "mask.png", *kept}
    assert all(files[name] == whole[name] for name in files)
    assert pieces[1].num_bytes == pytest.approx(sum(map(len, files.values())), rel=0.01)
    np.testing.assert_array_equal(decode(files)["lights"], decode(whole)["lights"][2:5])


def test_quality_tells_light_from_dark(arrays: Arrays) -> None:
    numbers = quality(arrays)
    assert all(np.isfinite(value) for value in numbers.values())
    black = quality({**arrays, "frames": np.zeros_like(arrays["frames"])})
    assert black["exposure"] == 0 < numbers["exposure"]
    bright = quality({**arrays, "frames": np.full_like(arrays["frames"], 255), "transfer": np.array("srgb")})
    assert bright["exposure"] == pytest.approx(1, abs=1e-6)
    assert bright["motion"] == 0
    assert numbers["light_spread_deg"] > 5


def test_quality_counts_what_is_planted() -> None:
    frames = np.full((2, 10, 10, 3), 100, np.uint8)
    frames[:, :1] = 255
    frames[1, 5:] = 0
    lights = np.array([[0, 0, 1], [0.6, 0, 0.8]])
    sample = {"frames": frames, "transfer": np.array("srgb"), "lights": lights, "intensity": np.ones((2, 3))}
    numbers = quality(sample)
    assert numbers["saturated"] == pytest.approx(0.1)
    assert numbers["shadow"] == pytest.approx(0.25)
    assert numbers["highlight"] == pytest.approx(0.1)
    assert numbers["object"] == 1
    assert numbers["light_elevation_min_deg"] == pytest.approx(np.rad2deg(np.arcsin(0.8)))
    hdr = frames.astype(np.float32)
    hdr[0, 0, 0, 0] = np.nan
    assert quality({**sample, "frames": hdr, "transfer": np.array("linear")})["nonfinite"] == pytest.approx(
        1 / 600
    )


def test_fingerprints_are_near_for_the_same_and_far_for_others() -> None:
    prints = []
    for seed in range(12):
        sample = decode(synth(seed, size=32, frames=3))
        noisy = np.clip(
            sample["frames"] + np.random.default_rng(seed).normal(0, 2, sample["frames"].shape), 0, 255
        )
        code, near = fingerprint(sample), fingerprint({**sample, "frames": noisy.astype(np.uint8)})
        assert 0 <= code < 2**64
        assert (code ^ near).bit_count() <= 4
        prints.append(code)
    apart = [(a ^ b).bit_count() for i, a in enumerate(prints) for b in prints[:i]]
    assert min(apart) > 4
    assert np.mean(apart) > 14


def test_another_light_is_another_fingerprint() -> None:
    sample = decode(synth(1, size=32))
    left = {**sample, "lights": np.tile([[-0.8, 0.0, 0.6]], (6, 1))}
    right = {**sample, "lights": np.tile([[0.8, 0.0, 0.6]], (6, 1))}
    assert (fingerprint(left) ^ fingerprint(right)).bit_count() == 8


def test_preview_is_a_picture_with_an_arrow_towards_the_light(arrays: Arrays) -> None:
    files = preview(arrays)
    picture = np.asarray(Image.open(BytesIO(files["png"])).convert("RGB")).astype(int)
    assert picture.shape[0] < 200
    assert picture.shape[1] > 6 * 150
    facts = json.loads(files["json"])
    np.testing.assert_allclose(facts["lights"], arrays["lights"], atol=1e-6)
    turned = preview({**arrays, "lights": np.tile([[0.8, 0, 0.6]], (6, 1))})
    other = preview({**arrays, "lights": np.tile([[-0.8, 0, 0.6]], (6, 1))})
    a, b = (np.asarray(Image.open(BytesIO(f["png"])).convert("RGB")).astype(int) for f in (turned, other))
    yellow = [
        np.nonzero((p[..., 0] > 240) & (p[..., 2] < 60) & (np.abs(a - b).max(axis=2) > 60))[1] % 164
        for p in (a, b)
    ]
    assert yellow[0].mean() > yellow[1].mean() + 20
