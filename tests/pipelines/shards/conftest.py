"""A finished dataset of two snapshots, built by the real code without Ray, and copies of it to damage."""

import io
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jobs.chaos.small import build, make_pictures, survey, work_on
from jobs.config.schema import IngestJob
from jobs.ingest import ingest_dataset
from pipelines.shards.dataset import Dataset
from pipelines.shards.storage import LocalStorage
from tests.pipelines.shards.fragile import KIND, World


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a dataset whose sources still lie beside it."""
    folder = tmp_path_factory.mktemp("finished")
    make_pictures(folder / "source")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYLOOM_SANDBOX", "0")
        rows = survey(folder / "source")
        storage = LocalStorage(folder / "data")
        first = [row for row in rows if row["name"] in ("0.png", "1.png", "2.png", "bad.png")]
        build(storage, work_on("first", first), random.Random(0))
        rest = [row for row in rows if row not in first]
        build(storage, work_on("rest", rest, parent=Dataset.open(storage.url)), random.Random(0))
    return folder / "data"


@pytest.fixture
def damaged(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it that a test may break."""
    monkeypatch.setenv("RAYLOOM_SANDBOX", "0")
    return Path(shutil.copytree(finished, tmp_path / "data"))


def picture(seed: int, quality: int = 95) -> bytes:
    coarse = np.random.default_rng(seed).integers(0, 255, (4, 5, 3), np.uint8)
    image = Image.fromarray(coarse).resize((40, 32), Image.Resampling.BICUBIC)
    image.save(out := io.BytesIO(), "JPEG", quality=quality)
    return out.getvalue()


@pytest.fixture(scope="session")
def build_real(ray_cluster: None) -> Callable[[Path], dict[str, IngestJob]]:
    """What ingests pictures in two ways, each as two snapshots, into a folder with their source."""

    def build_in(folder: Path) -> dict[str, IngestJob]:
        source = folder / "source"
        source.mkdir()
        for i in range(36):  # more than a chunk of the listing
            (source / f"{i:02}.jpg").write_bytes(picture(i))
        (source / "near.jpg").write_bytes(picture(0, quality=80))
        (source / "same.jpg").write_bytes(picture(1))
        (source / "told.jpg").write_bytes(picture(99))
        (source / "told.txt").write_text("a caption, so that somebody must open it")
        (source / "bad.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
        jobs = {}
        for name, dedup in (("surveyed", "near"), ("plain", "none")):
            values = {
                "kind": "ingest", "modality": "image", "source": {"uri": str(source)}, "dedup": dedup,
                "output": str(folder / name), "shards": {"max_samples": 12}, "quarantine": {"max_share": 1.0},
            }  # fmt: skip
            jobs[name] = IngestJob.model_validate(values)
            ingest_dataset(jobs[name])
        for i in range(36, 40):
            (source / f"{i}.jpg").write_bytes(picture(i))
        (source / "again.jpg").write_bytes(picture(2, quality=80))
        for job in jobs.values():
            ingest_dataset(job)
        return jobs

    return build_in


@pytest.fixture(scope="session")
def built(
    build_real: Callable[[Path], dict[str, IngestJob]], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, IngestJob]:
    """Jobs whose datasets lie there, by whether they are "surveyed" or "plain"; not to be changed."""
    return build_real(tmp_path_factory.mktemp("built"))


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("RAYLOOM_SANDBOX", "0")

    def make(**settings: Any) -> World:
        made = World(tmp_path / f"{len(list(tmp_path.iterdir()))}", **settings)
        monkeypatch.setitem(KIND.transforms, "fragile", made.fragile)  # type: ignore[arg-type]
        return made

    return make
