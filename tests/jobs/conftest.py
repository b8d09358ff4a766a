"""Small datasets for training, made in this process."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

import modalities
from jobs.config.schema import IngestJob
from jobs.ingest import SETTINGS
from pipelines.shards.dataset import Dataset
from pipelines.shards.manifest import Books, Manifest, commit
from pipelines.shards.pack import pack_unit
from pipelines.shards.plan import SURVEY, make_plan
from pipelines.shards.planned import write_plan
from pipelines.shards.storage import open_storage
from pipelines.sources import list_source
from pipelines.stages.survey import survey_entries

Synthesize = Callable[..., Dataset]


@pytest.fixture(scope="session")
def synthesize(tmp_path_factory: pytest.TempPathFactory) -> Synthesize:
    """Synthetic samples of a kind of data, through survey, plan and pack, without Ray.

    make(modality, count, **fields of the ingest job)
    """

    def make(modality: str, count: int, **changes: Any) -> Dataset:
        output = str(tmp_path_factory.mktemp(modality) / "dataset")
        values = {"kind": "ingest", "modality": modality, "source": {"synth": count}, "output": output}
        job = IngestJob.model_validate(values | changes).resolved()
        settings = {name: job[name] for name in SETTINGS}
        kind, source = modalities.get(modality), SimpleNamespace(**job["source"], seed=0)
        rows = survey_entries(list(list_source(source, kind)), kind, [])
        plan = make_plan(pa.Table.from_pylist(rows, schema=SURVEY), settings=settings, patterns=kind.patterns)
        storage = open_storage(output)
        name = write_plan(storage, plan, modality)
        done = [pack_unit(storage, name, unit) for unit in range(plan.units)]
        manifest = Manifest(
            number=0, parent=None, modality=modality, settings="", plans=[f"x/{name}"],
            classes=plan.classes, books=Books(inputs=count, written=count),
            shards=[unit.shard for unit in done if unit.shard],
        )  # fmt: skip
        commit(storage, manifest)
        return Dataset.open(output)

    return make


@pytest.fixture(scope="session")
def config_of(synthesize: Synthesize) -> Callable[..., dict[str, Any]]:
    """What a Run is made from: six steps on 24 pictures, a quarter of them held out, unless changed."""
    from jobs import train
    from jobs.config.schema import TrainJob

    pictures = synthesize("image", 24, split={"val": 0.25}, shards={"max_samples": 7}).storage.url

    def config(output: Path, **changes: Any) -> dict[str, Any]:
        values = {
            "kind": "train", "dataset": pictures, "task": "classification", "model": {"name": "window_nano"},
            "steps": 6, "batch_size": 4, "output": str(output), "data": {"size": 24}, "checkpoint_every": 3,
            "loader_workers": 0,
        }  # fmt: skip
        job = TrainJob.model_validate(values | changes)
        places = [job.dataset, *(part.dataset for part in job.more)]
        return train.run_config(job, *map(Dataset.open, places))

    return config
