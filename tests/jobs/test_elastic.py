"""Training on machines that come and go, by Ray Train's own elastic mode, and who counts as lost."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from jobs import checkpoint
from jobs.group import _lost, cores_each
from jobs.loop import Run
from pipelines.shards.dataset import Dataset
from pipelines.shards.storage import open_storage

ROOT = Path(__file__).parents[2]
LONG = pytest.mark.skipif("RAYLOOM_CHAOS" not in os.environ, reason="the long tier: make chaos")


def program(*words: str) -> None:
    """With a Ray of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *words], env=environment, cwd=ROOT, timeout=500, stderr=subprocess.PIPE, check=False
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]


def records(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]


@LONG
@pytest.mark.ray
@pytest.mark.timeout(600)
def test_a_job_goes_on_with_two_machines_and_with_one_again(
    synthesize: Callable[..., Dataset], tmp_path: Path
) -> None:
    data = synthesize("image", 48, split={"val": 0.25}, shards={"max_samples": 7})
    program("tests/jobs/elastic.py", data.storage.url, str(tmp_path / "run"))
    found = records(tmp_path / "run")
    assert [record["start"]["workers"] for record in found if "start" in record] == [1, 2, 1]
    losses = {record["step"]: record["loss"] for record in found if "loss" in record}
    assert list(losses) == list(range(1, 301))
    last = checkpoint.newest(open_storage(str(tmp_path / "run")))
    assert last is not None
    job = last.facts["job"] | {"output": str(tmp_path / "alone"), "workers": 1, "min_workers": None}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as each worker had: sums of more threads round otherwise
    try:
        Run({**last.facts, "job": job}).work()
    finally:
        torch.set_num_threads(threads)
    alone = {record["step"]: record["loss"] for record in records(tmp_path / "alone") if "loss" in record}
    second = [record["step"] for record in found if "start" in record][1]
    assert [losses[step] for step in range(1, second)] == [alone[step] for step in range(1, second)]
    near = range(second, second + 20)  # later the differences of rounding grow
    assert [losses[step] for step in near] == pytest.approx([alone[step] for step in near], rel=1e-3)


@LONG
@pytest.mark.ray
@pytest.mark.timeout(600)
def test_after_a_worker_a_driver_and_a_node_were_killed_the_losses_are_the_same_bits(tmp_path: Path) -> None:
    program("-m", "jobs.bench.kills", "--steps", "60", "--output", str(tmp_path))
    result = json.loads((tmp_path / "kills.json").read_text())
    assert [kill["killed"] for kill in result["kills"]] == ["worker", "driver", "node"]
    assert result["same_losses"]
    assert result["same_weights"]


def test_no_worker_is_divided_between_machines() -> None:
    assert cores_each([2], 1) == 2
    assert cores_each([8, 8], 2) == 8
    assert cores_each([8, 4], 2) == 4
    assert cores_each([8, 4], 3) == 4
    assert cores_each([1, 1], 1) == 1
    assert cores_each([2], 3) == cores_each([], 1) == 1


def test_lost_workers_are_told_from_mistakes() -> None:
    from ray.exceptions import RayActorError
    from ray.train import WorkerGroupError
    from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError

    away = WorkerHealthCheckFailedError("a worker health check failed", RayActorError())
    touch = ConnectionError("lost touch with another worker: gloo")
    assert _lost(WorkerGroupError("", {0: away, 1: RuntimeError("collateral")}))
    assert _lost(WorkerGroupError("", {1: touch}))
    assert not _lost(WorkerGroupError("", {0: FloatingPointError("the loss is nan")}))
    assert not _lost(ValueError("a mistake"))
