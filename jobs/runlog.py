"""What a run writes down while it goes: log.jsonl, Ray's gauges, and trackers such as TensorBoard."""

import json
import math
import os
import socket
import time
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from jobs.config.schema import TrainJob

MLFLOW = "MLFLOW_TRACKING_URI"  # where a user tells mlflow of a server


class RunLog:
    """The log of the run in a job's output; the first worker's alone. Object stores get no log.jsonl."""

    def __init__(self, job: TrainJob, accelerator: Any) -> None:
        self.path = None if "://" in job.output else Path(job.output, "log.jsonl")
        self._job, self._accelerator = job, accelerator

    def open(self, step: int, **facts: Any) -> None:
        """Drop what was logged after `step`, from which this process goes on, and say who starts."""
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        if self._accelerator.log_with:
            config = _flat(self._job.resolved())
            self._accelerator.init_trackers("rayloom", config=config, init_kwargs=_places(self._job))
        if self.path is None:
            return
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        kept = [line for line in lines if _step(line) <= step]
        fresh = self.path.with_suffix(".new")
        fresh.write_text("".join(f"{line}\n" for line in kept))
        fresh.replace(self.path)
        self._write({"step": step, "start": {"host": socket.gethostname(), "pid": os.getpid(), **facts}})

    def note(self, step: int, facts: Mapping[str, Any]) -> None:
        """A line for the log alone."""
        self._write({"step": step, **facts})

    def record(self, facts: Mapping[str, Any]) -> None:
        """A line about a step, to the log and to the trackers."""
        self._write(facts)
        if self._accelerator.log_with:
            values = {name: value for name, value in facts.items() if name != "step"}
            self._accelerator.log(values, step=facts["step"])

    def close(self) -> None:
        """Let the trackers finish; accelerate's `end_training` would end the group of processes, too."""
        for tracker in self._accelerator.trackers if self._accelerator.log_with else ():
            tracker.finish()

    def _write(self, facts: Mapping[str, Any]) -> None:
        if self.path is not None:
            with self.path.open("a") as file:
                file.write(json.dumps({"time": time.time(), **facts}) + "\n")


def trackers_of(job: TrainJob) -> list[str]:
    """The job's trackers; without a word from it TensorBoard, where it is installed and the output is local.

    ValueError for one that is not installed.
    """
    from accelerate.tracking import get_available_trackers

    there = [str(name.value) for name in get_available_trackers()]
    local = "://" not in job.output
    if job.trackers is None:
        return ["tensorboard"] if local and "tensorboard" in there else []
    if missing := [name for name in job.trackers if name not in there]:
        raise ValueError(f"trackers: {', '.join(missing)} is not installed; pip install {' '.join(missing)}")
    if "tensorboard" in job.trackers and not local:
        raise ValueError(f"trackers: tensorboard writes to a folder, and output is {job.output}")
    if "mlflow" in job.trackers and not local and MLFLOW not in os.environ:
        raise ValueError(f"trackers: mlflow needs {MLFLOW}, its server, where output is {job.output}")
    return list(job.trackers)


def tracking_folder(job: TrainJob) -> str | None:
    """Where trackers that write files write them."""
    return None if "://" in job.output else str(Path(job.output, "tensorboard"))


def _places(job: TrainJob) -> dict[str, Any]:
    """What trackers call the run, and where they keep it that would keep it in a worker's current folder."""
    known: dict[str, Any] = {"mlflow": {"run_name": job.output}, "wandb": {"name": job.output}}
    if "://" not in job.output:
        known["wandb"]["dir"] = job.output
        if "mlflow" in (job.trackers or ()) and MLFLOW not in os.environ:
            mlflow = import_module("mlflow")  # an extra, which mypy need not find
            mlflow.set_tracking_uri(f"sqlite:///{Path(job.output, 'mlflow.db').resolve()}")
            os.environ.pop(MLFLOW, None)  # which mlflow sets, for processes of its own
            known["mlflow"]["logging_dir"] = str(Path(job.output, "mlflow").resolve())
    return known


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values as dotted names; what is no number, text or truth as text."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value if isinstance(value, int | float | str) else json.dumps(value)
    return found


def _step(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError):  # a line cut off by a kill
        return math.inf
