"""The demo's page, from studies written by hand: small datasets, and predictions with known errors."""

import base64
import math
import re
from collections.abc import Mapping
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

import modalities
from jobs.config.schema import InferJob, IngestJob, TrainJob
from jobs.demo import charts, pictures
from jobs.demo.report import write_report
from jobs.demo.results import Result
from jobs.demo.studies import Study
from pipelines.loading import load_sample
from pipelines.shards.dataset import Dataset
from pipelines.shards.index import Row, write_index
from pipelines.shards.manifest import Books, Manifest, Shard, commit
from pipelines.shards.pack import dropped_table
from pipelines.shards.storage import open_storage
from pipelines.shards.tar import TarWriter

HOSTILE = '"><img src=http://evil.example/x onerror=alert(1)><script>alert(2)</script>'
CLASSES = ["<b>one</b>", "two"]
TASKS = {
    "image": ("masked", {"size": 16}),
    "video": ("classification", {"frames": 2, "size": 16}),
    "pointcloud": ("masked", {"num_points": 64}),
    "hyperspectral": ("segmentation", {"size": 8}),
    "lighting": ("regression", {"frames": 2, "size": 16}),
}
FACTS = {"seconds": 12.0, "peak_gib": 1.5}
OFF_DEG = 30.0


def write_dataset(root: Path, modality: str, splits: Mapping[str, int]) -> Dataset:
    """Samples from seeds, the first of each split under a hostile key, one entry left out."""
    import blake3

    kind, storage, shards = modalities.get(modality), open_storage(str(root)), []
    seed = 0
    for split, count in splits.items():
        tar, rows = TarWriter(file := BytesIO()), []
        for i in range(count):
            files = {k: v for k, v in kind.synth(seed).items() if k != "cls"}
            key = f"{split}/{HOSTILE if i == 0 else i}"
            members = {ext: tar.add(f"{split}-{i}.{ext}", content) for ext, content in files.items()}
            rows.append(
                Row(
                    key=key, files=members, meta={"width": 7, "format": HOSTILE}, label=CLASSES[i % 2],
                    caption=None, group=key, quality={}, fingerprint=None, source=key, content="",
                )
            )  # fmt: skip
            seed += 1
        digest, index = tar.finish(), write_index(rows)
        shard = Shard(
            digest=digest, samples=count, size=tar.size, split=split, index=blake3.blake3(index).hexdigest()
        )
        storage.put(shard.key, file.getvalue())
        storage.put(shard.index_key, index)
        shards.append(shard)
    lost = {"status": "quarantined", "name": HOSTILE, "suffix": "", "entry": "", "content": None, "head": b""}
    left_out = dropped_table([{**lost, "reason": HOSTILE, "detail": HOSTILE}])
    storage.put("quarantine/p/survey.parquet", left_out)
    books = Books(inputs=seed + 1, written=seed, quarantined=1)
    manifest = Manifest(
        number=0, parent=None, modality=modality, settings="", plans=["x/p"], classes=CLASSES, books=books,
        shards=shards, job={"dedup": "none"},
    )  # fmt: skip
    commit(storage, manifest)
    return Dataset.open(str(root))


def answer(modality: str, sample: Mapping[str, Any], place: int) -> dict[str, Any]:
    """A prediction with an error that is known."""
    if modality == "image":  # a corner of 4 x 4 pixels was hidden and is off by 1
        made = sample["image"].copy()
        made[:, :4, :4] += 1
        return {"reconstruction": made.tolist()}
    if modality == "pointcloud":  # every other point was hidden, all its features are off by a half
        made = sample["features"].copy()
        made[::2] += 0.5
        return {"reconstruction": made.tolist()}
    if modality == "video":  # always the first class
        return {"probabilities": [0.75, 0.25], "label": 0}
    if modality == "hyperspectral":  # the upper half is right
        made = sample["segmentation"].copy()
        made[4:] = (made[4:] + 1) % 5
        return {"segmentation": made.tolist()}
    return {"value": [turned(light).tolist() for light in sample["light"]]}


def turned(light: np.ndarray) -> np.ndarray:
    """A direction `OFF_DEG` away, at any length."""
    across = np.cross(light, [0.0, 0.0, 1.0] if abs(light[2]) < 0.9 else [1.0, 0.0, 0.0])
    across /= np.linalg.norm(across)
    return 3 * (light * math.cos(math.radians(OFF_DEG)) + across * math.sin(math.radians(OFF_DEG)))


def make_result(root: Path, modality: str, *, held_out: int = 3) -> Result:
    """A finished study; its predictions are in another order than the samples."""
    task, data = TASKS[modality]
    dataset = write_dataset(root / modality, modality, {"train": 2, "val": held_out})
    url = dataset.storage.url
    study = Study(
        title=f"{modality} {HOSTILE}",
        ingests=[
            IngestJob.model_validate(
                {"kind": "ingest", "modality": modality, "source": {"synth": 5}, "output": url}
            )
        ],
        train=TrainJob.model_validate(
            {
                "kind": "train", "dataset": url, "output": str(root / "run"), "task": task, "steps": 50,
                "model": {"name": "tiny"}, "data": data,
            }
        ),
        infer=InferJob.model_validate(
            {"kind": "infer", "dataset": url, "checkpoint": "c", "output": "o", "split": "val"}
        ),
        metric="score",
        chance="guess",
        better="lower",
        says=HOSTILE,
    )  # fmt: skip
    rows = [(shard, row) for shard, row in dataset if shard.split == "val"]
    records = [
        {"key": row.key, "error": None}
        | answer(modality, load_sample(dataset, shard, row, rng=None, options=data), i)
        for i, (shard, row) in enumerate(rows)
    ]
    log: list[dict[str, float]] = [{"step": i + 1, "loss": 2 / (i + 1)} for i in range(50)]
    log += [{"step": 25, "val_score": 0.5}, {"step": 50, "val_score": 0.4}]
    return Result(
        study=study, datasets=[dataset], books=[dataset.manifest.books], log=log, metric=0.4, chance=0.5,
        predictions=pa.Table.from_pylist(records[::-1]), seconds={"ingest": 1.0, "train": 2.0, "infer": 3.0},
    )  # fmt: skip


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Result]:
    root = tmp_path_factory.mktemp("studies")
    return {modality: make_result(root, modality) for modality in TASKS}


@pytest.fixture(scope="module")
def page(results: dict[str, Result], tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "report.html"
    assert write_report(path, list(results.values()), FACTS) == path
    return path.read_text(encoding="utf-8")


class Tags(HTMLParser):
    """Every start tag with its attributes, and all text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def section(page: str, modality: str) -> str:
    return page.split(f"<section id={modality}>")[1].split("</section>")[0]


def test_the_page_asks_for_nothing_outside_itself(page: str) -> None:
    tags = Tags(page).tags
    assert {"script", "link", "iframe", "object", "base"}.isdisjoint(tag for tag, _ in tags)
    for tag, attributes in tags:
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
        if "src" in attributes:
            assert str(attributes["src"]).startswith(("data:image/png;base64,", "data:image/jpeg;base64,"))
        if "href" in attributes:
            assert str(attributes["href"]).startswith("#")
    style = page.split("<style>")[1].split("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style
    assert "default-src 'none'" in page
    assert len(page) < 2**21


def test_names_that_are_markup_are_text(page: str) -> None:
    tags = Tags(page)
    assert "<script>" not in page
    assert HOSTILE not in page
    assert tags.text.count(HOSTILE) >= 5  # titles, reasons and details, as they are
    assert f"val/{HOSTILE}" in {attributes.get("title") for _, attributes in tags.tags}
    assert "<b>one</b>" not in page
    assert "<b>one</b>" in tags.text


@pytest.mark.parametrize("modality", TASKS)
def test_every_study_shows_its_books_losses_samples_and_answers(page: str, modality: str) -> None:
    part = section(page, modality)
    assert f'href="#{modality}"' in page
    books = "".join(f"<td class=n>{count}</td>" for count in (6, 5, 1, 0, 0))
    assert f"{books}<td>✓</td>" in part  # inputs = written + quarantined + duplicates + filtered
    samples, answers = part.split("What was learned")
    assert samples.count("<img ") == 5
    assert answers.count("<img ") >= 3
    assert "3 predictions" in answers
    assert "too large" not in part
    assert "could not be predicted" not in part


def test_the_head_has_the_totals_and_a_verdict_for_each(results: dict[str, Result], tmp_path: Path) -> None:
    behind = replace(results["image"], metric=0.6)
    text = write_report(tmp_path / "r.html", [behind, results["video"]], FACTS).read_text()
    head = text.split("<section")[0]
    for told in ("1 of 2", "12 s", "1.5 GiB", "✗ not better", "✓ better", "0.6", "1 + 2 + 3"):
        assert told in head
    assert "✗ not better than chance" in section(text, "image")


def test_curves_have_a_point_for_each_step_and_the_chance_at_its_height(page: str) -> None:
    part = section(page, "image")
    lines = {
        kind: points.split() for kind, points in re.findall(r'polyline class="(\w+)" points="([^"]*)"', part)
    }
    assert len(lines["raw"]) == 50
    marks = re.findall(
        r"<circle class=mark cx=\"([\d.]+)\" cy=\"([\d.]+)\" r=4><title>step (\d+): ([\d.]+)", part
    )
    assert [(step, value) for _, _, step, value in marks] == [("25", "0.5"), ("50", "0.4")]
    [chance] = re.findall(r'<line class=chance [^>]*y1="([\d.]+)"', part)
    assert chance == marks[0][1]  # the first measurement is exactly chance
    assert float(marks[1][1]) > float(chance)  # lower on the page is a smaller value
    assert lines["raw"][-1].split(",")[0] == marks[1][0]  # both end at the last step


def test_curves_of_nothing_of_one_point_and_of_nan_are_drawn() -> None:
    for points in (np.empty(0), np.array([[3.0, 0.0]]), np.array([[1.0, math.nan], [2.0, 1.0]])):
        text = charts.curve(points, name="x", last=4, chance=math.nan, marked=True)
        assert "nan" not in text
        assert "chance" not in text
    assert "nan" not in charts.curve(np.empty((0, 2)), name="x", last=4)


@pytest.mark.parametrize("top", [1e-9, 0.0552, 0.9, 1.0, 7.3, 120, 36000])
def test_ticks_are_few_round_and_within(top: float) -> None:
    marks = charts.ticks(top)
    assert marks[0] == 0
    assert 3 <= len(marks) <= 6
    assert marks[-1] <= top * (1 + 1e-9)
    assert marks[-1] + marks[1] > top


def test_hidden_pixels_are_grey_and_their_error_is_the_predictions_own(results: dict[str, Result]) -> None:
    for found in pictures.answers(results["image"], "reconstruction", 3):
        true, seen, made, error = pictures.painted(found)
        stored = modalities.get("image").decode(results["image"].datasets[0].files(found.shard, found.row))
        assert true.shape == (16, 16, 3)
        assert abs(true.mean() - stored["image"][..., :3].mean()) < 30  # the normalisation is off again
        assert (seen[:4, :4] == pictures.HIDDEN).all()
        for picture in (seen, made):
            outside = np.ones((16, 16), bool)
            outside[:4, :4] = False
            np.testing.assert_array_equal(picture[outside], true[outside])
        assert error == pytest.approx(1, abs=1e-5)


def test_points_get_back_what_was_hidden_and_their_error(results: dict[str, Result]) -> None:
    features = ("height", "intensity", "rgb")
    for found in pictures.answers(results["pointcloud"], "reconstruction", 3):
        true, seen, made, error = pictures.clouds(found, features)
        assert true.shape == seen.shape == made.shape == (220, 440, 3)
        drawn = [(view != pictures.PANEL).any(axis=2) for view in (true, seen, made)]
        assert drawn[0][:, :220].any()
        assert drawn[0][:, 220:].any()
        assert (true != seen).any()
        assert error == pytest.approx(0.25, abs=1e-5)
        order = [2, 3, 4, 0, 1]
        inputs = {**found.inputs, "features": found.inputs["features"][:, order]}
        output = {"reconstruction": np.array(found.output["reconstruction"])[:, order].tolist()}
        other = replace(found, inputs=inputs, output=output)
        again = pictures.clouds(other, ("rgb", "height", "intensity"))
        for view, same in zip((true, seen, made), again, strict=False):
            np.testing.assert_array_equal(view, same)


def test_a_view_has_north_up_east_right_and_near_points_on_top() -> None:
    points = np.array([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0], [0, 0, -1.0]])
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9]], np.uint8)
    view = pictures._view(points, colours, 0.0)
    where = {
        name: np.argwhere((view == colour).all(axis=2)).mean(axis=0)
        for name, colour in zip("enud", colours, strict=True)
    }
    middle = pictures.VIEW_SIDE / 2
    assert where["e"][1] > middle + 90
    assert abs(where["e"][0] - middle) < 2
    assert where["n"][0] < where["u"][0] < middle < where["d"][0]
    rise = math.radians(pictures.ELEVATION_DEG)
    to_viewer = np.array([0, -math.cos(rise), math.sin(rise)])
    pair = np.array([[1.0, 0, 0], 0.5 * to_viewer, -0.5 * to_viewer])  # the last one is behind the second
    view = pictures._view(pair, colours[:3], 0.0)
    assert (view == colours[1]).all(axis=2).any()
    assert not (view == colours[2]).all(axis=2).any()


def test_lights_are_drawn_where_they_are_and_their_angles_are_right(page: str) -> None:
    disc = charts.light_disc(np.array([0, 2.0, 0]), np.array([0.6, 0, -0.8]))
    assert '<line class="true" x1="50" y1="50" x2="50.0" y2="8.0"/>' in disc
    assert '<line class="said behind" x1="50" y1="50" x2="75.2" y2="50.0"/>' in disc
    true = np.array([[1.0, 0, 0], [0, 0, 2.0], [0, 1.0, 0]])
    said = np.array([[0, 3.0, 0], [0, 0, 1.0], [1e-6, 1.0, 0]])
    np.testing.assert_allclose(pictures.angles_deg(true, said), [90, 0, np.rad2deg(1e-6)], rtol=1e-9)
    part = section(page, "lighting")
    assert part.count("30°</td>") == 6  # three samples of two frames
    assert part.count("30° off on average") == 3


def test_right_and_wrong_clips_are_marked_and_counted(page: str) -> None:
    part = section(page, "video")
    assert part.count('<b class="good">✓</b>') == 2
    assert part.count('<b class="bad">✗</b>') == 1
    counts = re.findall(r'<td class="n (\w+)" style="--a:([\d.]+)">(\d+)', part)
    assert counts == [
        ("hit", "1.00", "2"),
        ("miss", "0.00", "0"),
        ("miss", "1.00", "1"),
        ("hit", "0.00", "0"),
    ]


def test_maps_have_the_colours_of_the_legend_and_the_share_that_is_right(page: str) -> None:
    numbers = np.array([[-1, 0], [4, 13]])
    colours = pictures.material_map(numbers)
    assert ["#" + bytes(c).hex() for c in colours.reshape(-1, 3)][1:] == [
        pictures.colour_of(0), pictures.colour_of(4), pictures.colour_of(1),
    ]  # fmt: skip
    assert tuple(colours[0, 0]) == tuple(pictures.UNKNOWN_COLOUR)
    shifted = pictures.material_map(numbers, pictures.NEUTRAL)
    assert "#" + bytes(shifted[0, 1]).hex() == pictures.colour_of(0, pictures.NEUTRAL)
    part = section(page, "hyperspectral")
    assert part.count("<td>50% right</td>") == 3
    assert re.findall(r"</i>(\w+)</span>", part) == ["soil", "litter", "char", "road", "tile"]


def test_large_previews_shrink_and_stay_pictures() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (512, 512, 3), np.uint8)
    Image.fromarray(noise).save(out := BytesIO(), "PNG")
    kind, content = pictures.compact(out.getvalue()).split(";base64,")
    small = Image.open(BytesIO(base64.b64decode(content)))
    assert (kind, small.size) == ("data:image/jpeg", (320, 320))
    assert len(content) < len(out.getvalue()) / 4


@pytest.mark.parametrize("modality", TASKS)
def test_one_held_out_sample_is_enough(modality: str, tmp_path: Path) -> None:
    result = make_result(tmp_path, modality, held_out=1)
    assert "1 prediction;" in write_report(tmp_path / "r.html", [result], FACTS).read_text()


@pytest.mark.parametrize("modality", TASKS)
def test_failed_predictions_are_counted_and_break_nothing(
    results: dict[str, Result], modality: str, tmp_path: Path
) -> None:
    result = results[modality]
    rows = result.predictions.to_pylist()
    empty = {name: None for name in rows[0]}
    some = pa.Table.from_pylist([{**empty, "key": rows[0]["key"], "error": "lost"}, *rows[1:]])
    text = write_report(tmp_path / "r.html", [replace(result, predictions=some)], FACTS).read_text()
    assert "1 of 3 samples could not be predicted" in text
    none = pa.table({"key": [row["key"] for row in rows], "error": ["lost"] * 3})
    text = write_report(tmp_path / "r.html", [replace(result, predictions=none)], FACTS).read_text()
    assert "3 of 3 samples could not be predicted" in text


@pytest.mark.parametrize(
    ("count", "most", "want"), [(0, 3, []), (1, 3, [0]), (3, 3, [0, 1, 2]), (9, 3, [0, 4, 8])]
)
def test_samples_are_chosen_evenly_from_first_to_last(count: int, most: int, want: list[int]) -> None:
    assert pictures.evenly(count, most) == want
