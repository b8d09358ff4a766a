"""Train and infer jobs on real Ray, from a dataset of synthetic samples."""

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from jobs import checkpoint, infer, train
from jobs.config.schema import InferJob, IngestJob, TrainJob
from jobs.ingest import ingest_dataset
from jobs.meters import GAUGES
from pipelines.graphs.predict import read_predictions
from pipelines.jsontext import digest
from pipelines.shards.dataset import Dataset
from pipelines.shards.manifest import Conflict
from pipelines.shards.storage import open_storage

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> str:
    output = str(tmp_path_factory.mktemp("images") / "data")
    job = {"kind": "ingest", "modality": "image", "source": {"synth": 64}, "output": output}
    ingest_dataset(IngestJob.model_validate(job | {"split": {"val": 0.25}, "shards": {"max_samples": 16}}))
    return output


Make = Callable[..., TrainJob]


@pytest.fixture(scope="module")
def run(images: str) -> Make:
    def make(output: Path | str, **changes: Any) -> TrainJob:
        values = {
            "kind": "train", "dataset": images, "task": "classification", "model": {"name": "window_nano"},
            "steps": 6, "batch_size": 8, "output": str(output), "data": {"size": 24}, "checkpoint_every": 3,
        }  # fmt: skip
        return TrainJob.model_validate(values | changes)

    return make


@pytest.fixture(scope="module")
def whole(run: Make, tmp_path_factory: pytest.TempPathFactory) -> TrainJob:
    """A run of six steps that nothing disturbed. Starting Ray Train takes long, so tests share it."""
    job = run(tmp_path_factory.mktemp("whole") / "run")
    summary = train.train_model(job)
    assert summary["step"] == 6
    assert 0 <= summary["metrics"]["val_accuracy"] <= 1
    return job


def log(output: str) -> list[dict[str, Any]]:
    path = Path(output, "log.jsonl")
    return (
        [json.loads(line) for line in path.read_text().splitlines(True) if line.endswith("\n")]
        if path.exists()
        else []
    )


def losses(output: str) -> list[tuple[int, float]]:
    records = map(json.loads, Path(output, "log.jsonl").read_text().splitlines())
    return [(r["step"], r["loss"]) for r in records if "loss" in r]


def test_prometheus_gets_the_numbers_of_a_run(whole: TrainJob) -> None:
    import ray

    (node,) = ray.nodes()
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    names = {f"ray_rayloom_train_{name}" for name in GAUGES}
    found: dict[str, float] = {}
    deadline = time.monotonic() + 60  # workers report every ten seconds
    while not names <= found.keys() and time.monotonic() < deadline:
        time.sleep(0.5)
        with urlopen(url, timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        found |= {
            line.partition("{")[0]: float(line.rpartition(" ")[2])
            for line in lines
            if line.startswith("ray_rayloom_train_")
        }
    assert names <= found.keys()
    assert 0 < found["ray_rayloom_train_mfu"] < 1
    assert found["ray_rayloom_train_step"] >= 1


def before_the_end(job: TrainJob, output: Path) -> Path:
    """A copy of a run that was cut off before its last checkpoint."""
    shutil.copytree(job.output, output)
    shutil.rmtree(output / "checkpoints" / "00000006")
    return output


def test_a_run_that_was_cut_off_ends_like_one_that_was_not(
    run: Make, whole: TrainJob, tmp_path: Path
) -> None:
    assert [step for step, _ in losses(whole.output)] == [1, 2, 3, 4, 5, 6]
    resumed = run(before_the_end(whole, tmp_path / "cut"))
    train.train_model(resumed)
    assert losses(resumed.output) == losses(whole.output)
    ends = [checkpoint.newest(open_storage(job.output)) for job in (whole, resumed)]
    assert ends[0] is not None
    assert ends[1] is not None
    assert all(bool((ends[1].model[k] == v).all()) for k, v in ends[0].model.items())


def test_relative_places_are_in_the_current_folder(
    run: Make, images: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    train.train_model(run("here/run", steps=1))
    assert Path("here/run/log.jsonl").is_file()
    job = InferJob(kind="infer", dataset=images, checkpoint="here/run", output="here/predictions")
    infer.infer_dataset(job)
    assert list(Path("here/predictions/parts").glob("*.parquet"))


def test_a_damaged_checkpoint_is_passed_over_and_written_anew(
    whole: TrainJob, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(whole.output, copy := tmp_path / "copy")
    storage = open_storage(str(copy))
    good = checkpoint.read(storage, 6)
    [weights] = (copy / "checkpoints/00000006").glob("*-model.safetensors")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    found = checkpoint.newest(storage)
    assert found is not None
    assert found.step == 3
    assert "checkpoint 6" in caplog.text
    checkpoint.write(storage, good)
    again = checkpoint.newest(storage)
    assert again is not None
    assert again.step == 6


def test_another_job_or_dataset_in_the_same_place_is_refused(
    run: Make, whole: TrainJob, tmp_path: Path
) -> None:
    with pytest.raises(Conflict, match="differs in learning_rate"):
        train.train_model(run(whole.output, learning_rate=1e-5))
    values = {
        "kind": "ingest",
        "modality": "image",
        "source": {"synth": 8},
        "output": str(tmp_path / "other"),
    }
    ingest_dataset(IngestJob.model_validate(values))
    with pytest.raises(Conflict, match="on another dataset"):
        train.train_model(run(whole.output, dataset=str(tmp_path / "other")))


def test_two_workers_train_as_one_does(run: Make, whole: TrainJob, tmp_path: Path) -> None:
    pair = run(tmp_path / "pair", workers=2)
    train.train_model(pair)
    for (_, a), (_, b) in zip(losses(whole.output), losses(pair.output), strict=True):
        assert a == pytest.approx(b, rel=5e-3)


def test_a_killed_worker_is_replaced_and_the_run_ends_as_if_nothing_was(run: Make, tmp_path: Path) -> None:
    job = run(tmp_path / "killed", steps=40, checkpoint_every=2)
    with ThreadPoolExecutor(1) as threads:
        done = threads.submit(train.train_model, job)
        while not done.done() and len(records := log(job.output)) < 7:
            time.sleep(0.02)
        assert not done.done()
        os.kill(records[0]["start"]["pid"], signal.SIGKILL)
        assert done.result(timeout=120)["step"] == 40
    starts = [record for record in log(job.output) if "start" in record]
    assert [record["start"]["workers"] for record in starts] == [1, 1]
    assert starts[1]["step"] >= 4
    assert [step for step, _ in losses(job.output)] == list(range(1, 41))


def test_predictions_stand_beside_the_samples_and_a_second_run_does_nothing(
    whole: TrainJob, images: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = InferJob(
        kind="infer", dataset=images, checkpoint=whole.output, output=str(tmp_path / "predictions")
    )
    snapshot, new = infer.infer_dataset(job)
    dataset = Dataset.open(images)
    assert new == len(dataset.manifest.shards) == len(snapshot.parts)
    table = read_predictions(job.output)
    assert table["key"].to_pylist() == [row.key for _, row in dataset]
    assert set(table["class"].to_pylist()) <= set(dataset.manifest.classes)
    assert table["error"].null_count == table.num_rows
    assert infer.run(job) == 0
    assert "nothing to do" in capsys.readouterr().out


def test_predictions_are_of_the_best_checkpoint_where_the_job_says_so(
    run: Make, images: str, tmp_path: Path
) -> None:
    how: dict[str, Any] = {"learning_rate": 1e-12, "steps": 3, "validation": {"every": 1}}
    trained = run(tmp_path / "run", **how)  # nothing is learned: the first measurement stays the best
    train.train_model(trained)
    storage = open_storage(trained.output)
    assert checkpoint.steps(storage) == [3, 1]
    values = {"kind": "infer", "dataset": images, "checkpoint": trained.output, "split": "val"}
    for pick, step in (("best", 1), ("last", 3)):
        job = InferJob.model_validate(values | {"pick": pick, "output": str(tmp_path / pick)})
        snapshot, _ = infer.infer_dataset(job)
        used = checkpoint.read(storage, step, optimizer=False)
        assert snapshot.model == digest([used.digest, "val", "averaged"])[:32]


def test_only_new_shards_are_predicted_and_another_model_is_refused(whole: TrainJob, tmp_path: Path) -> None:
    output = str(tmp_path / "growing")
    values = {"kind": "ingest", "modality": "image", "output": output, "shards": {"max_samples": 6}}
    ingest_dataset(IngestJob.model_validate(values | {"source": {"synth": 12}}))
    job = InferJob(kind="infer", dataset=output, checkpoint=whole.output, output=str(tmp_path / "p"))
    assert infer.infer_dataset(job)[1] == 2
    ingest_dataset(IngestJob.model_validate(values | {"source": {"synth": 18}}))
    snapshot, new = infer.infer_dataset(job)
    assert (new, snapshot.number, sum(part.rows for part in snapshot.parts)) == (1, 1, 18)
    other = before_the_end(whole, tmp_path / "other")
    with pytest.raises(Conflict, match="another checkpoint"):
        infer.infer_dataset(job.model_copy(update={"checkpoint": str(other)}))


def test_tasks_that_the_data_cannot_answer_say_what_is_missing(run: Make, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="task regression needs target"):
        train.train_model(run(tmp_path / "run", task="regression"))
    with pytest.raises(LookupError, match="did you mean"):
        train.train_model(run(tmp_path / "run", model={"name": "window_nno"}))
    with pytest.raises(LookupError, match="image has no option 'sise'; did you mean 'size'"):
        train.train_model(run(tmp_path / "run", data={"sise": 24}))
