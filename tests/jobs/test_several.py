"""Several tasks in one run, each from a dataset of its own."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs import checkpoint
from jobs.infer import Predictor
from jobs.loop import Run
from pipelines.shards.dataset import Dataset

Config = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def config(config_of: Config, synthesize: Callable[..., Dataset]) -> Config:
    """Classes of one dataset; hidden parts of another, half as often."""
    other = synthesize("image", 16, source={"synth": 16}).storage.url

    def make(output: Path, **changes: Any) -> dict[str, Any]:
        hidden = {"dataset": other, "weight": 0.5, "task": "masked", "options": {"mask_ratio": 0.5}}
        values = {"more": [hidden], "average": 0.9, "validation": {"every": 4}, "checkpoint_every": 4}
        return config_of(output, **(values | {"steps": 8} | changes))

    return make


def records(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def whole(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run(config(tmp_path_factory.mktemp("several") / "run"))
    run.work()
    return run


def test_one_backbone_learns_each_task_from_batches_of_its_own(whole: Run) -> None:
    steps = [record for record in records(Path(whole.job.output)) if "loss" in record]
    tasks = ["masked" if "loss_masked" in step else "classification" for step in steps]
    assert set(tasks) == {"masked", "classification"}
    assert all(step[f"loss_{task}"] == step["loss"] for step, task in zip(steps, tasks, strict=True))
    fresh = Run({**whole.config, "job": whole.config["job"] | {"output": f"{whole.job.output}-fresh"}})
    before, after = fresh.plain.state_dict(), whole.plain.state_dict()
    parts = {name.split(".")[0] + name.split(".")[1] for name in after}
    assert parts == {"mainmodel", "heads0"}
    for part in ("heads.0", "main.model.head", "main.model.backbone"):
        assert any((after[name] != before[name]).any() for name in after if name.startswith(part))


def test_a_batch_of_another_task_teaches_the_backbone_of_the_first(config: Config, tmp_path: Path) -> None:
    run = Run(config(tmp_path / "run"))
    batch = next(batch for batch in run.feed.stream() if run.feed.task_of(batch) == 1)
    ((part, _),) = run.feed.passes(batch)
    run.plain(part)["loss"].backward()
    assert all(p.grad is not None for p in run.plain.main.model.backbone.parameters())
    assert all(p.grad is not None for p in run.plain.heads[0].parameters())
    assert all(p.grad is None for p in run.plain.main.model.head.parameters())


def test_the_first_task_is_measured_and_predicts(whole: Run) -> None:
    assert set(whole.summary["metrics"]) == {"val_accuracy"}
    batch = next(iter(whole.feed.held_out))
    found = Predictor(whole.storage.url, 8)({"image": batch["image"], "key": batch["key"]})
    assert set(found["class"]) <= set(whole.spec["classes"])


def test_a_run_of_several_tasks_that_was_cut_off_ends_like_one_that_was_not(
    whole: Run, config: Config, tmp_path: Path
) -> None:
    shutil.copytree(whole.job.output, tmp_path / "cut")
    shutil.rmtree(tmp_path / "cut/checkpoints/00000008")
    cut = Run(config(tmp_path / "cut"))
    assert cut.step == 4
    cut.work()
    ends = [checkpoint.newest(run.storage) for run in (whole, cut)]
    assert ends[0] is not None
    assert ends[1] is not None
    assert all(bool((ends[1].model[name] == value).all()) for name, value in ends[0].model.items())


def test_a_task_of_a_part_may_have_classes_and_targets_of_its_own(config: Config, tmp_path: Path) -> None:
    data = config(tmp_path / "x")["job"]["dataset"]
    height = {"dataset": data, "task": "regression", "target": "meta.height"}
    found = config(tmp_path / "run", task="masked", more=[height])
    assert [spec["task"] for spec in (found["spec"], *found["spec"]["more"])] == ["masked", "regression"]
    run = Run(found)
    run.work()
    assert set(run.summary["metrics"]) == {"val_masked_mse", "val_baseline_mse"}
    with pytest.raises(ValueError, match="blend is for one task"):
        config(tmp_path / "b", blend={"mixup": 1.0})
    with pytest.raises(ValueError, match="options and target are those of a task"):
        config(tmp_path / "c", more=[{"dataset": data, "options": {"mask_ratio": 0.5}}])
