"""A finished dataset of two snapshots, built by the real code without Ray, and copies of it to damage."""

import random
import shutil
from pathlib import Path

import pytest

from jobs.chaos.small import build, make_pictures, survey, work_on
from pipelines.shards.dataset import Dataset
from pipelines.shards.storage import LocalStorage


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
