"""One training process by itself: precisions, what a checkpoint keeps, and processes that are used again."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from jobs import checkpoint, loop, train
from jobs.config.schema import IngestJob, TrainJob
from jobs.ingest import ingest_dataset
from pipelines.shards.dataset import Dataset
from pipelines.shards.storage import open_storage

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]
Make = Callable[..., loop.Run]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> Make:
    data = str(tmp_path_factory.mktemp("images") / "data")
    job = {"kind": "ingest", "modality": "image", "source": {"synth": 12}, "output": data}
    ingest_dataset(IngestJob.model_validate(job))

    def run(output: Path, **changes: Any) -> loop.Run:
        values = {
            "kind": "train", "dataset": data, "task": "classification", "model": {"name": "window_nano"},
            "steps": 4, "batch_size": 4, "output": str(output), "data": {"size": 24},
        }  # fmt: skip
        job = TrainJob.model_validate(values | changes)
        return loop.Run(train.run_config(job, Dataset.open(data)))

    return run


def test_a_process_takes_runs_of_any_precision_one_after_another(make: Make, tmp_path: Path) -> None:
    for precision, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32), ("bf16", torch.bfloat16)):
        run = make(tmp_path / precision, precision=precision)
        with run.accelerator.autocast():
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


def test_half_precision_is_refused_where_nothing_computes_in_it(make: Make, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine computes in it")
    with pytest.raises(ValueError, match="precision fp16 needs a GPU, this worker has cpu; want bf16"):
        make(tmp_path / "run", precision="fp16")


def test_a_checkpoint_keeps_the_scale_of_half_precision_gradients(make: Make, tmp_path: Path) -> None:
    run = make(tmp_path / "run", steps=1)
    run.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=2)
    run.work()
    found = checkpoint.newest(open_storage(str(tmp_path / "run")))
    assert found is not None
    resumed = make(tmp_path / "run", steps=1)
    resumed.accelerator.scaler = scaler = torch.amp.GradScaler("cpu")
    resumed._resume(found)
    assert found.facts["scaler"]["scale"] == scaler.get_scale() == 1024.0
    assert scaler.get_growth_interval() == 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_half_precision_run_that_was_cut_off_ends_like_one_that_was_not(make: Make, tmp_path: Path) -> None:
    whole = make(tmp_path / "whole", precision="fp16", checkpoint_every=2)
    whole.work()
    first = make(tmp_path / "cut", precision="fp16", checkpoint_every=2)
    first.job = first.job.model_copy(update={"steps": 2})
    first.work()
    second = make(tmp_path / "cut", precision="fp16", checkpoint_every=2)
    assert second.step == 2
    second.work()
    scales = [run.accelerator.scaler.state_dict() for run in (whole, second)]
    assert scales[0] == scales[1]
