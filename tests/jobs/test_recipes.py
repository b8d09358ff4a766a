"""Every recipe loads, says what it reaches, and hangs together; two of them run."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from jobs.config import InferJob, IngestJob, TrainJob, load_job
from jobs.recipes import scenes, speeds, tiles

RECIPES = Path(__file__).parents[2] / "jobs" / "recipes"
FILES = sorted(RECIPES.glob("*/*.yaml"))
TRAIN = [path for path in FILES if path.stem not in ("ingest", "infer")]
ELSEWHERE = ("speeds", "scans")  # measured by jobs.bench.learn, which trains several models on them
MEASURED = [path for path in TRAIN if path.parent.name not in ELSEWHERE]
METRICS = ("accuracy", "kappa", "angular error", "masked_mse")


def names(paths: list[Path]) -> list[str]:
    return ["/".join(path.parts[-2:]) for path in paths]


def head(path: Path) -> str:
    """The comment that a file begins with."""
    lines = []
    for line in path.read_text().splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# "))
    return " ".join(lines)


def test_all_kinds_of_data_are_masked_and_every_task_has_a_recipe() -> None:
    jobs = [(path, load_job(path)) for path in FILES]
    modality = {path.parent: job.modality for path, job in jobs if isinstance(job, IngestJob)}
    there = {(modality[path.parent], job.task) for path, job in jobs if isinstance(job, TrainJob)}
    kinds = ("image", "video", "pointcloud", "hyperspectral", "lighting")
    assert there >= {(kind, "masked") for kind in kinds}
    assert there >= {
        ("image", "classification"), ("video", "classification"), ("pointcloud", "classification"),
        ("pointcloud", "segmentation"), ("hyperspectral", "segmentation"), ("lighting", "regression"),
    }  # fmt: skip


def test_every_folder_makes_its_dataset_trains_and_predicts() -> None:
    for folder in {path.parent for path in FILES}:
        kinds = {type(load_job(path)) for path in folder.glob("*.yaml")}
        assert kinds == {IngestJob, TrainJob, InferJob}, folder.name


@pytest.mark.parametrize("path", FILES, ids=names(FILES))
def test_a_recipe_reads_what_its_folder_made(path: Path) -> None:
    job, made = load_job(path), f"recipes/{path.parent.name}"
    assert job.output.startswith(f"{made}/")
    if isinstance(job, TrainJob | InferJob):
        ingest = load_job(path.parent / "ingest.yaml")
        assert job.dataset == ingest.output
    if isinstance(job, InferJob):
        assert job.checkpoint in [load_job(other).output for other in TRAIN if other.parent == path.parent]


@pytest.mark.parametrize("path", MEASURED, ids=names(MEASURED))
def test_the_head_gives_the_command_the_metric_and_what_it_is_compared_with(path: Path) -> None:
    said = head(path)
    assert f"rayloom run jobs/recipes/{path.parent.name}/{path.name}" in said
    assert any(metric in said for metric in METRICS)
    assert len(re.findall(r"\d+\.\d+", said)) >= 2, "what it reaches, and a baseline"
    assert "held out" in said
    assert "linear" in said or "mean" in said


@pytest.mark.parametrize("path", MEASURED, ids=names(MEASURED))
def test_what_a_head_calls_its_seconds_fits_in_three_minutes(path: Path) -> None:
    (seconds,) = re.findall(r"(\d+) s of one core", head(path))
    assert 0 < int(seconds) <= 180


def test_tiles_of_one_photograph_do_not_overlap(tmp_path: Path) -> None:
    assert tiles.write(tmp_path) == len(tiles.PHOTOGRAPHS) * tiles.TILES
    for folder in tmp_path.iterdir():
        corners = [tuple(map(int, path.stem.split("_"))) for path in folder.iterdir()]
        assert len(corners) == tiles.TILES
        assert len(set(corners)) == len(corners)
        assert all(y % tiles.TILE == x % tiles.TILE == 0 for y, x in corners)


def test_squares_of_films_share_neither_a_place_nor_a_time() -> None:
    film = np.zeros((2 * speeds.LENGTH + 5, 2 * speeds.SIDE + 3, 3 * speeds.SIDE + 1, 3), np.uint8)
    for spot in speeds.spots("film", film):
        assert not spot.pixels.any()
        spot.pixels[...] = 1  # a view of the film: whoever comes again finds it
        start = spot.stretch * speeds.LENGTH
        assert film[start, spot.top, spot.left].all()
    assert film.sum() == 2 * speeds.LENGTH * 2 * 3 * speeds.SIDE**2 * 3


def test_clips_of_a_square_hold_frames_of_the_film_as_they_are(shared_data: Path, tmp_path: Path) -> None:
    film = speeds.decode(speeds.paths(shared_data / "video")[-1])
    spot = next(spot for spot in speeds.spots("carphone", film) if spot.stretch == 1 and spot.moves)
    square = np.s_[spot.top : spot.top + speeds.SIDE, spot.left : spot.left + speeds.SIDE]
    for label, speed in speeds.SPEEDS.items():
        path = tmp_path / f"{label}.mp4"
        path.write_bytes(speeds.clip(spot, speed))
        at = speeds.LENGTH + speed * np.arange(speeds.FRAMES)
        assert np.array_equal(speeds.decode(path), film[at][(slice(None), *square)])


def test_a_square_moves_unless_it_is_still_or_cut() -> None:
    t = np.arange(speeds.LENGTH)[:, None, None, None]
    frames = np.broadcast_to(t, (speeds.LENGTH, speeds.SIDE, speeds.SIDE, 3))

    def moves(values: np.ndarray) -> bool:
        return speeds.Spot("film", 0, 0, 0, values.astype(np.uint8)).moves

    assert moves(4 * frames)
    assert not moves(2 * frames)
    assert not moves(4 * frames + 60 * (frames >= 16))


def test_points_of_a_scene_lie_on_what_their_class_says() -> None:
    for seed in range(12):
        points, labels = scenes.scene(np.random.default_rng(seed))
        assert len(points) == len(labels)
        floor = points[labels == 0]
        assert np.abs(floor[:, 2]).max() < 6 * scenes.NOISE_M
        for kind in set(labels.tolist()) - {0}:
            top = points[labels == kind, 2].max()
            assert top < 2 * scenes.HALVES[kind][1][2] + 6 * scenes.NOISE_M
            assert top > 1.8 * scenes.HALVES[kind][0][2]


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize(
    ("recipe", "ingest", "task", "metric"),
    [
        ("solids", ["source.synth=48"], "classification", "accuracy"),
        ("jasper_ridge", [], "segmentation", "kappa"),
    ],
)
def test_a_recipe_runs_as_it_stands(
    recipe: str, ingest: list[str], task: str, metric: str, tmp_path: Path, shared_data: Path
) -> None:
    from jobs.ingest import ingest_dataset
    from jobs.train import train_model

    data, run = tmp_path / "dataset", tmp_path / "run"
    where = ingest or [f"source.uri={shared_data / 'hyperspectral/jasperRidge2_R198.mat'}"]
    job = load_job(RECIPES / recipe / "ingest.yaml", [f"output={data}", *where])
    assert isinstance(job, IngestJob)
    ingest_dataset(job)
    train = load_job(RECIPES / recipe / f"{task}.yaml", [f"dataset={data}", f"output={run}", "steps=3"])
    assert isinstance(train, TrainJob)
    summary = train_model(train)
    assert f"val_{metric}" in summary["metrics"]
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [record["step"] for record in log if "loss" in record] == [1, 2, 3]
