"""Where the numbers of a run go: its log, TensorBoard, and other trackers by accelerate's names."""

import json
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from accelerate.utils import LoggerType

from jobs.config.schema import TrainJob
from jobs.config.schema.train import TrackerName
from jobs.loop import Run
from jobs.runlog import trackers_of

Config = Callable[..., dict[str, Any]]
NUMBERS = {"loss", "samples_s", "mfu", "data_wait", "val_accuracy"}


def logged(output: Path) -> list[tuple[int, float]]:
    """(step, loss) of each step."""
    records = map(json.loads, (output / "log.jsonl").read_text().splitlines())
    return [(record["step"], record["loss"]) for record in records if "loss" in record]


def wandb_records(path: Path) -> Iterator[Any]:
    """What wandb wrote for a later upload: its messages, in a log of LevelDB's format."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, at, message = path.read_bytes(), 7, b""
    while at < len(content):
        if (left := -at % 32768) < 7:
            at += left
            continue
        _, size, kind = struct.unpack_from("<IHB", content, at)
        message += content[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # all of a message, or its end
            yield Record.FromString(message)
            message = b""


def test_trackers_are_called_as_accelerate_calls_them() -> None:
    assert set(get_args(TrackerName)) <= {name.value for name in LoggerType}


def test_tensorboard_has_every_number_of_every_step(config_of: Config, tmp_path: Path) -> None:
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    Run(config_of(tmp_path / "run", steps=2, trackers=["tensorboard"])).work()
    folder = str(tmp_path / "run/tensorboard/rayloom")
    events = event_accumulator.EventAccumulator(folder).Reload()
    tags = events.Tags()["scalars"]
    assert set(tags) >= NUMBERS
    assert [event.step for event in events.Scalars("loss")] == [1, 2]


def test_a_tracker_that_is_not_there_is_said_before_anything_starts(
    config_of: Config, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="aim is not installed; pip install aim"):
        config_of(tmp_path / "run", trackers=["aim"])


def test_no_tracker_and_an_object_store_write_no_files(config_of: Config, tmp_path: Path) -> None:
    Run(config_of(tmp_path / "run", steps=1, trackers=[])).work()
    assert not (tmp_path / "run/tensorboard").exists()
    values = config_of(tmp_path / "run")["job"] | {"output": "s3://bucket/run"}
    job = TrainJob.model_validate(values)
    assert trackers_of(job) == []
    with pytest.raises(ValueError, match="tensorboard writes to a folder, and output is s3"):
        trackers_of(job.model_copy(update={"trackers": ("tensorboard",)}))


@pytest.mark.filterwarnings("ignore")  # of libraries that it draws in
def test_mlflow_keeps_a_run_beside_its_checkpoints(
    config_of: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)  # as in a worker, whose current folder goes away
    output = tmp_path / "run"
    Run(config_of(output, steps=2, trackers=["mlflow"])).work()
    assert "MLFLOW_TRACKING_URI" not in os.environ, "of another run it would be the place as well"
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    client = mlflow.MlflowClient(f"sqlite:///{output}/mlflow.db")
    (experiment,) = client.search_experiments(filter_string="name = 'rayloom'")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.info.run_name == str(output)
    assert (run.data.params["batch_size"], run.data.params["model.name"]) == ("4", "window_nano")
    assert run.data.metrics.keys() >= NUMBERS
    losses = client.get_metric_history(run.info.run_id, "loss")
    assert [(metric.step, metric.value) for metric in losses] == logged(output)
    away = TrainJob.model_validate(
        config_of(output)["job"] | {"output": "s3://bucket/run", "trackers": ["mlflow"]}
    )
    with pytest.raises(ValueError, match="mlflow needs MLFLOW_TRACKING_URI, its server, where output is s3"):
        trackers_of(away)


@pytest.mark.filterwarnings("ignore")
def test_wandb_keeps_a_run_beside_its_checkpoints(
    config_of: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.chdir(tmp_path)
    output = tmp_path / "run"
    Run(config_of(output, steps=2, trackers=["wandb"])).work()
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    wandb.teardown()  # its own process may still be writing
    (file,) = output.glob("wandb/offline-run-*/*.wandb")
    records = list(wandb_records(file))
    (start,) = (record.run for record in records if record.HasField("run"))
    assert (start.project, start.display_name) == ("rayloom", str(output))
    config = {
        item.key: json.loads(item.value_json)
        for record in records
        if record.HasField("config")
        for item in record.config.update
    }
    assert (config["batch_size"], config["model.name"]) == (4, "window_nano")
    steps = [
        {(item.key or item.nested_key[0]): json.loads(item.value_json) for item in record.history.item}
        for record in records
        if record.HasField("history")
    ]
    assert {name for step in steps for name in step} >= NUMBERS
    assert [(step["_step"], step["loss"]) for step in steps] == logged(output)
