"""A job for one or two workers on a Ray cluster that gains a machine, and loses it again.

A program of its own, started by test_elastic.py with a dataset and an output, whose log says what happened.
"""

import json
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ray

from jobs import group, train
from jobs.bench.kills import machines
from jobs.config.schema import TrainJob

LIMIT_S = 240.0


def job(dataset: str, output: str) -> TrainJob:
    values = {
        "kind": "train", "dataset": dataset, "task": "classification", "model": {"name": "window_nano"},
        "steps": 300, "batch_size": 16, "output": output, "data": {"size": 48}, "checkpoint_every": 10,
        "loader_workers": 0, "workers": 2, "min_workers": 1, "schedule": "constant", "warmup_steps": 0,
    }  # fmt: skip
    return TrainJob.model_validate(values)


def records(output: str) -> list[dict[str, Any]]:
    path = Path(output, "log.jsonl")
    lines = path.read_text().splitlines(True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def wait_for(output: str, workers: int, starts: int, running: Future[Any]) -> None:
    """Until the run was started so many times, the last time by so many workers, and took fifteen steps."""
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline and not running.done():
        found = records(output)
        began = [i for i, record in enumerate(found) if "start" in record]
        if (
            len(began) >= starts
            and found[began[-1]]["start"]["workers"] == workers
            and len(found) > began[-1] + 15
        ):
            return
        time.sleep(0.1)
    if running.done():
        running.result()
    raise TimeoutError(f"no {workers} workers in {[r for r in records(output) if 'start' in r]}")


def main(dataset: str, output: str) -> None:
    group.RESIZE_S = 2.0
    with machines(1, cores=1) as there, ThreadPoolExecutor(1) as threads:
        ray.init(address=there.address, logging_level="ERROR", log_to_driver=False)
        running = threads.submit(train.train_model, job(dataset, output))
        wait_for(output, 1, 1, running)
        second = there.add_node(num_cpus=1)
        wait_for(output, 2, 2, running)
        there.remove_node(second, allow_graceful=False)
        wait_for(output, 1, 3, running)
        running.result(LIMIT_S)
        ray.shutdown()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
