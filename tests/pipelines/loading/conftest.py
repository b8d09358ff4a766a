"""Small datasets of synthetic samples, built by the same functions as the Ray graph, in this process."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

import modalities
from pipelines.shards.dataset import Dataset
from pipelines.shards.manifest import Books, Manifest, commit
from pipelines.shards.pack import pack_unit
from pipelines.shards.plan import SURVEY, make_plan
from pipelines.shards.planned import write_plan
from pipelines.shards.storage import open_storage
from pipelines.sources import list_source
from pipelines.stages.survey import survey_entries

SETTINGS: dict[str, Any] = {
    "seed": 0, "dedup": "none", "split": {"val": 0.2, "test": 0.0, "by": "scene"}, "stages": [],
    "shards": {"max_bytes": 2**28, "max_samples": 7, "shuffle": True}, "decode": True,
}  # fmt: skip

Build = Callable[..., Dataset]


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """build(modality, count) -> a dataset of `count` synthetic samples, seven a shard."""

    def make(modality: str, count: int, *, url: str | None = None, number: int = 0) -> Dataset:
        kind = modalities.get(modality)
        storage = open_storage(url or str(tmp_path_factory.mktemp("data")))
        source = SimpleNamespace(
            uri=None, synth=count, seed=0, labels="auto", glob=None, uri_column="uri", label_column="label",
            caption_column="caption",
        )  # fmt: skip
        rows = survey_entries(list(list_source(source, kind)), kind, [])
        survey = pa.Table.from_pylist(rows, schema=SURVEY)
        plan = make_plan(survey, settings=SETTINGS, patterns=kind.patterns)
        name = write_plan(storage, plan, modality)
        done = [pack_unit(storage, name, unit) for unit in range(plan.units)]
        manifest = Manifest(
            number=number, parent=None, modality=modality, settings="", plans=[f"x/{name}"],
            classes=plan.classes, books=Books(inputs=count, written=count),
            shards=[d.shard for d in done if d.shard],
        )  # fmt: skip
        commit(storage, manifest)
        return Dataset.open(storage.url)

    return make


@pytest.fixture(scope="session")
def dataset(build: Build) -> Dataset:
    """Forty pictures."""
    return build("image", 40)


@pytest.fixture(scope="session")
def clouds(build: Build) -> Dataset:
    """Sixteen point clouds."""
    return build("pointcloud", 16)


@pytest.fixture(scope="session")
def cubes(build: Build) -> Dataset:
    """Nine hyperspectral cubes."""
    return build("hyperspectral", 9)
