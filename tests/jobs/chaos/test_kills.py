"""Real jobs are killed with SIGKILL and started again; the checker finds nothing."""

import os
from pathlib import Path

import pytest

from jobs.chaos.invariants import Truth
from jobs.chaos.kills import PATHS, VICTIMS, golden, until_done, write_job
from pipelines.shards.dataset import Dataset
from pipelines.shards.planned import read_unit

pytestmark = pytest.mark.ray
LONG = pytest.mark.skipif("RAYLOOM_CHAOS" not in os.environ, reason="the long tier: make chaos")
MOMENTS = ("survey:1", "units:1", "shards:1", "done:2", "done:8", "shards:12")


@pytest.fixture(scope="module", params=PATHS)
def job(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_job(tmp_path_factory.mktemp(request.param) / "job", pictures=60, path=request.param)


@pytest.fixture(scope="module")
def whole(job: Path) -> Truth:
    return golden(job, job.parent / "golden")


@pytest.mark.timeout(600)
def test_a_job_whose_driver_and_worker_are_killed_ends_as_if_nothing_had_happened(
    job: Path, whole: Truth, tmp_path: Path
) -> None:
    assert (
        list(until_done(job, tmp_path / "data", whole, [("driver", "shards:2"), ("worker", "done:2")])) == []
    )


def test_plain_objects_are_not_opened_before_they_are_packed(job: Path, whole: Truth) -> None:
    """So that both paths are killed, and not one of them twice."""
    dataset = Dataset.open(str(job.parent / "golden"))
    [plan] = dataset.plans()
    unopened = {row["content"] is None for row in read_unit(dataset.storage, plan, 0)}
    assert unopened == {"dedup: none" in job.read_text()}


@LONG
@pytest.mark.timeout(600)
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("victim", VICTIMS)
def test_whoever_dies_at_whatever_moment(
    victim: str, moment: str, job: Path, whole: Truth, tmp_path: Path
) -> None:
    assert list(until_done(job, tmp_path / "data", whole, [(victim, moment)])) == []
