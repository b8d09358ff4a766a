"""Every published system takes its steps the way `rayloom run train.yaml model.name=NAME` does."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.config.schema import TrainJob
from jobs.loop import Run
from jobs.train import run_config
from models import list_models
from models.presets.base import resolve, systems
from pipelines.shards.dataset import Dataset

SMALL: dict[str, dict[str, Any]] = {
    "image": {"task": "classification", "data": {"size": 32}},
    "video": {"task": "classification", "data": {"frames": 4, "size": 32}},
    "pointcloud": {"task": "classification", "data": {"num_points": 96}},
    "hyperspectral": {"task": "segmentation", "data": {"size": 16, "bands": 12}},
    "lighting": {"task": "regression", "data": {"frames": 2, "size": 32}},
}
MODELS = [name for name in list_models() if name.endswith("_nano")]


@pytest.fixture(scope="module")
def dataset(synthesize: Callable[[str, int], Dataset]) -> Callable[[str], Dataset]:
    made: dict[str, Dataset] = {}
    return lambda modality: made.setdefault(modality, synthesize(modality, 8))


def test_every_system_has_a_model_to_train() -> None:
    assert {f"{system}_nano" for system in systems()} <= set(MODELS)


def test_a_job_may_give_the_name_alone() -> None:
    job = {"kind": "train", "dataset": "d", "task": "classification", "steps": 1, "output": "o"}
    alone, whole = (TrainJob.model_validate({**job, "model": m}) for m in ("swin", {"name": "swin"}))
    assert alone == whole
    assert alone.digest() == whole.digest()


@pytest.mark.parametrize("name", MODELS)
def test_trains_by_name(name: str, dataset: Callable[[str], Dataset], tmp_path: Path) -> None:
    modality = resolve(name)["modality"]
    given = dataset(modality)
    values = {
        "kind": "train", "dataset": given.storage.url, "model": {"name": name}, "output": str(tmp_path),
        "steps": 1, "warmup_steps": 0, "batch_size": 4, "loader_workers": 0, **SMALL[modality],
    }  # fmt: skip
    run = Run(run_config(TrainJob.model_validate(values), given))
    before = {key: value.clone() for key, value in run.plain.named_parameters()}
    run.work()
    assert run.step == 1
    still = [key for key, value in run.plain.named_parameters() if bool((value == before[key]).all())]
    assert len(still) < len(before) / 2, still
