"""Two processes that train one model: whole copies or divided, what they store, and who goes on with it."""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs import checkpoint
from jobs.checkpoint import Checkpoint
from jobs.loop import Run
from jobs.wiring import build_task
from pipelines.shards.storage import open_storage

Config = Callable[..., dict[str, Any]]
ROOT = Path(__file__).parents[2]
HOW: dict[str, Any] = {
    "batch_size": 8, "average": 0.9, "accumulate": 2, "layer_decay": 0.8, "recompute": True, "keep": None,
    "schedule": "constant", "warmup_steps": 0, "validation": {"every": 3},
}  # fmt: skip
MANY: dict[str, Any] = {
    "name": "window_nano",
    "options": {"depths": [2, 8, 1]},
}  # weights, none of them large


def by_two(folder: Path, configs: list[dict[str, Any]]) -> None:
    """Run them by two processes that talk over gloo."""
    (listed := folder / "configs.json").write_text(json.dumps(configs))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    program = str(Path(__file__).with_name("two_processes.py"))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen([sys.executable, program, rank, port, str(listed)], env=environment)
        for rank in ("0", "1")
    ]
    try:
        assert [process.wait(timeout=240) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()


def by_one(config: dict[str, Any], *, until: int) -> None:
    run = Run(config)
    run.job = run.job.model_copy(update={"steps": until})
    run.work()


@pytest.fixture(scope="module")
def runs(config_of: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """By two: six steps of `copies` and of `divided`, twice three of `cut`. By one, two, one: `elastic`."""
    folder = tmp_path_factory.mktemp("runs")

    def config(name: str, **changes: Any) -> dict[str, Any]:
        return config_of(folder / name, **(HOW | changes))

    divided: dict[str, Any] = {"workers": 2, "parallel": "fsdp"}
    hidden = [{"dataset": config("x")["job"]["dataset"], "task": "masked"}]
    by_one(config("elastic", steps=9), until=3)
    by_two(
        folder,
        [
            config("copies", workers=2),
            config("divided", **divided),
            config("cut", **divided) | {"until": 3},
            config("cut", **divided),
            config("elastic", steps=9, **divided) | {"until": 6},
            config("start", model=MANY, average=None, **divided)
            | {"until": 0, "starts_in": str(folder / "most")},
            *(
                config(f"several_{how}", steps=4, workers=2, parallel=how, more=hidden)
                for how in ("ddp", "fsdp")
            ),
        ],
    )
    by_one(config("elastic", steps=9), until=9)
    return folder


def losses(output: Path) -> list[float]:
    records = map(json.loads, (output / "log.jsonl").read_text().splitlines())
    return [record["loss"] for record in records if "loss" in record]


def newest(output: Path) -> Checkpoint:
    found = checkpoint.newest(open_storage(str(output)))
    assert found is not None
    return found


def test_a_divided_model_learns_as_whole_copies_do(runs: Path) -> None:
    assert len(losses(runs / "copies")) == 6
    assert losses(runs / "divided") == pytest.approx(losses(runs / "copies"), rel=1e-6)
    whole, joined = newest(runs / "copies"), newest(runs / "divided")
    for part in ("model", "average"):
        first, second = getattr(whole, part), getattr(joined, part)
        assert first.keys() == second.keys()
        assert all(second[name].allclose(value, atol=2e-5) for name, value in first.items())
    assert joined.facts["summary"]["metrics"] == whole.facts["summary"]["metrics"]


def test_several_tasks_are_learned_by_copies_as_by_a_divided_model(runs: Path) -> None:
    records = [json.loads(line) for line in (runs / "several_fsdp/log.jsonl").read_text().splitlines()]
    assert {"loss_classification", "loss_masked"} <= {name for record in records for name in record}
    assert losses(runs / "several_fsdp") == pytest.approx(losses(runs / "several_ddp"), rel=1e-6)


def test_each_process_stores_the_part_that_it_has(runs: Path) -> None:
    (whole,) = (runs / "copies/checkpoints/00000006").glob("*-optimizer.safetensors")
    parts = sorted((runs / "divided/checkpoints/00000006").glob("*-optimizer-*"), key=lambda p: p.name[17:])
    assert [path.name[17:] for path in parts] == [
        "optimizer-1-of-2.safetensors",
        "optimizer-2-of-2.safetensors",
    ]
    assert all(path.stat().st_size < 0.7 * whole.stat().st_size for path in parts)


def test_a_divided_run_that_was_cut_off_ends_like_one_that_was_not(runs: Path) -> None:
    starts = [
        json.loads(line) for line in (runs / "cut/log.jsonl").read_text().splitlines() if "start" in line
    ]
    assert [start["step"] for start in starts] == [0, 3]
    assert losses(runs / "cut") == losses(runs / "divided")
    ends = [newest(runs / name) for name in ("divided", "cut")]
    assert all(bool((ends[1].model[name] == value).all()) for name, value in ends[0].model.items())


def test_one_then_two_then_one_worker_see_the_samples_that_one_sees(
    runs: Path, config_of: Config, tmp_path: Path
) -> None:
    by_one(config_of(tmp_path / "alone", **HOW, steps=9), until=9)
    records = [json.loads(line) for line in (runs / "elastic/log.jsonl").read_text().splitlines()]
    starts = [(record["step"], record["start"]["workers"]) for record in records if "start" in record]
    assert starts == [(0, 1), (3, 2), (6, 1)]
    assert losses(runs / "elastic") == pytest.approx(losses(tmp_path / "alone"), rel=1e-4)


def test_no_process_of_a_divided_run_starts_with_the_whole_model(
    runs: Path, config_of: Config, tmp_path: Path
) -> None:
    whole = sum(weight.nbytes for weight in build_task(config_of(tmp_path, model=MANY)["spec"]).parameters())
    for rank in (0, 1):
        most = int((runs / f"most-{rank}").read_text())
        assert 0.5 * whole <= most <= 0.75 * whole, "the process's half, a whole weight, and its part of it"


def test_a_damaged_part_costs_its_checkpoint(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "divided", tmp_path / "copy")
    (part,) = (tmp_path / "copy/checkpoints/00000006").glob("*-model-2-of-2.safetensors")
    content = bytearray(part.read_bytes())
    content[-1] ^= 1
    part.write_bytes(content)
    assert newest(tmp_path / "copy").step == 3
