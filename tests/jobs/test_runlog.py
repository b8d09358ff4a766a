"""Where the numbers of a run go: its log, TensorBoard, and other trackers by accelerate's names."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from accelerate.utils import LoggerType

from jobs.config.schema import TrainJob
from jobs.config.schema.train import TrackerName
from jobs.loop import Run
from jobs.runlog import trackers_of

Config = Callable[..., dict[str, Any]]


def test_trackers_are_called_as_accelerate_calls_them() -> None:
    assert set(get_args(TrackerName)) <= {name.value for name in LoggerType}


def test_tensorboard_has_every_number_of_every_step(config_of: Config, tmp_path: Path) -> None:
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    Run(config_of(tmp_path / "run", steps=2, trackers=["tensorboard"])).work()
    folder = str(tmp_path / "run/tensorboard/rayloom")
    events = event_accumulator.EventAccumulator(folder).Reload()
    tags = events.Tags()["scalars"]
    assert {"loss", "samples_s", "mfu", "data_wait", "val_accuracy"} <= set(tags)
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
