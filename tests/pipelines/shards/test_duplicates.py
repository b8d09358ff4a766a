"""Planted duplicates of every kind: what is found, and what is taken for one that is none."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image, ImageEnhance

import modalities
from pipelines.shards.plan import SURVEY, make_plan
from pipelines.stages.process import arrays_digest

SETTINGS: dict[str, Any] = {
    "seed": 0, "dedup": "near", "dedup_distance": 6, "split": {"val": 0.0, "test": 0.0, "by": "scene"},
    "shards": {"max_bytes": 2**20, "max_samples": 100, "shuffle": True},
}  # fmt: skip
Variant = Callable[[Image.Image], tuple[str, bytes]]


def clustered(groups: list[list[int]]) -> tuple[float, float]:
    """Precision and recall over pairs, of clusters made of fingerprints by group."""
    common: dict[str, Any] = dict.fromkeys(SURVEY.names) | {
        "status": "ok",
        "entry": "{}",
        "suffix": "",
        "meta": "{}",
    }
    rows = [
        common
        | {
            "name": f"{g}/{i}.x",
            "num_bytes": 1000 - i,
            "content": f"{g}-{i}",
            "group": "",
            "fingerprint": print_,
        }
        for g, prints in enumerate(groups)
        for i, print_ in enumerate(prints)
    ]
    plan = make_plan(pa.Table.from_pylist(rows, schema=SURVEY), settings=SETTINGS, patterns=("*.x",))
    assert plan.num_samples + plan.counts["duplicate"] == len(rows)
    cluster = {row["name"]: row["cluster"] for row in plan.table("clusters").to_pylist()}
    names = [row["name"] for row in rows]
    found = {(a, b) for a in names for b in names if a < b and cluster.get(a, a) == cluster.get(b, b)}
    truth = {(a, b) for a in names for b in names if a < b and a.partition("/")[0] == b.partition("/")[0]}
    return len(found & truth) / max(1, len(found)), len(found & truth) / len(truth)


def natural(seed: int) -> Image.Image:
    """A picture with the falling spectrum of natural ones (Field, 1987), three channels that go together."""
    rng = np.random.default_rng(seed)
    height, width = 180, 240
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = 1

    def noise() -> np.ndarray:
        waves = rng.normal(size=(2, *frequency.shape))
        return np.fft.irfft2((waves[0] + 1j * waves[1]) / frequency**1.3, (height, width))

    shared = noise()
    channels = [shared + 0.4 * noise() for _ in range(3)]
    pixels = [np.clip(128 + 55 * (c - c.mean()) / c.std(), 0, 255) for c in channels]
    return Image.fromarray(np.stack(pixels, -1).astype(np.uint8))


def encoded(image: Image.Image, form: str = "JPEG", quality: int = 90) -> tuple[str, bytes]:
    image.save(out := io.BytesIO(), form, quality=quality)
    return {"JPEG": "jpg", "WEBP": "webp"}[form], out.getvalue()


def cropped(image: Image.Image, share: float) -> Image.Image:
    dx, dy = int(image.width * share / 2), int(image.height * share / 2)
    return image.crop((dx, dy, image.width - dx, image.height - dy))


VARIANTS: dict[str, Variant] = {
    "quality 20": lambda image: encoded(image, quality=20),
    "webp": lambda image: encoded(image, "WEBP", quality=60),
    "a third": lambda image: encoded(image.resize((80, 60))),
    "other aspect": lambda image: encoded(image.resize((200, 190))),
    "brighter": lambda image: encoded(ImageEnhance.Brightness(image).enhance(1.2)),
    "darker": lambda image: encoded(ImageEnhance.Brightness(image).enhance(0.8)),
    "2 % cropped": lambda image: encoded(cropped(image, 0.02)),
}


def oracle(data: bytes) -> int:
    """The usual perceptual hash, of the package ImageHash."""
    import imagehash

    return int(str(imagehash.phash(Image.open(io.BytesIO(data)))), 16)


def test_changed_pictures_are_found_as_well_as_by_the_usual_hash() -> None:
    fingerprint, decode = modalities.get("image").fingerprint, modalities.get("image").decode
    ours, theirs = [], []
    for seed in range(25):
        files = [encoded(natural(seed), quality=95)]
        files += [change(natural(seed)) for change in VARIANTS.values()]
        ours.append([fingerprint(decode({ext: data})) for ext, data in files])
        theirs.append([oracle(data) for _, data in files])
    precision, recall = clustered(ours)
    usual_precision, usual_recall = clustered(theirs)
    assert precision == 1.0
    assert recall >= 0.98
    assert recall >= usual_recall - 0.02
    assert precision >= usual_precision


def test_real_pictures_are_told_apart(shared_data: Any) -> None:
    kind = modalities.get("image")
    groups = []
    for path in sorted((shared_data / "images").glob("*.JPEG"))[:24]:
        with Image.open(path) as image:
            small = image.convert("RGB").resize((image.width // 2, image.height // 2))
        files = [("jpg", path.read_bytes()), encoded(small, quality=70)]
        groups.append([kind.fingerprint(kind.decode({ext: data})) for ext, data in files])
    precision, recall = clustered(groups)
    assert precision == 1.0
    assert recall >= 0.95


def points(arrays: Any, rng: np.random.Generator) -> list[Any]:
    order = rng.permutation(len(arrays["points"]))
    keep = np.sort(order[: int(0.9 * len(order))])
    spread = arrays["points"].std()
    shaken = arrays["points"] + rng.normal(0, 0.002 * spread, arrays["points"].shape)
    return [
        {"points": arrays["points"][order]},
        {"points": arrays["points"][keep]},
        {"points": shaken.astype(arrays["points"].dtype)},
    ]


def cubes(arrays: Any, rng: np.random.Generator) -> list[Any]:
    cube = arrays["cube"]
    noise = cube.astype(np.float32) + rng.normal(0, 0.002 * cube.std(), cube.shape)
    return [
        {**arrays, "cube": (cube.astype(np.float32) * 1.05).astype(np.float32)},
        {**arrays, "cube": noise.astype(np.float32)},
    ]


def frames(arrays: Any, rng: np.random.Generator) -> list[Any]:
    """As lossy H.264; half the size."""
    from modalities.video.transforms import transcode

    return [
        transcode(arrays, crf=32),
        {**arrays, "frames": np.ascontiguousarray(arrays["frames"][:, ::2, ::2])},
    ]


@pytest.mark.parametrize(
    ("name", "change"), [("pointcloud", points), ("hyperspectral", cubes), ("video", frames)]
)
def test_the_other_kinds_find_theirs(name: str, change: Callable[..., list[Any]]) -> None:
    kind = modalities.get(name)
    groups = []
    for seed in range(8):
        arrays = kind.look(kind.synth(seed))
        changed = change(arrays, np.random.default_rng(seed))
        groups.append([kind.fingerprint(one) for one in [arrays, *changed]])
    _, recall = clustered(groups)
    assert recall >= 0.9


def test_reordered_points_are_the_same_to_the_last_bit_of_their_fingerprint() -> None:
    kind = modalities.get("pointcloud")
    arrays = kind.decode(kind.synth(1))
    order = np.random.default_rng(0).permutation(len(arrays["points"]))
    assert kind.fingerprint({"points": arrays["points"][order]}) == kind.fingerprint(arrays)


def test_what_decodes_to_the_same_has_one_digest() -> None:
    kind = modalities.get("image")
    pixels = natural(3).resize((60, 40))
    found = []
    for form, ext in (("PNG", "png"), ("BMP", "bmp"), ("TIFF", "tif")):
        pixels.save(out := io.BytesIO(), form)
        found.append(arrays_digest(kind.decode({ext: out.getvalue()})))
    assert len(set(found)) == 1
    pixels.putpixel((0, 0), (1, 2, 3))
    pixels.save(out := io.BytesIO(), "PNG")
    assert arrays_digest(kind.decode({"png": out.getvalue()})) not in found
