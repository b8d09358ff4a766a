"""Real jobs are killed with SIGKILL and started again; the checker finds nothing."""

import os
from pathlib import Path

import pytest

from jobs.chaos.invariants import Truth, swept
from jobs.chaos.kills import ENDS, PATHS, VICTIMS, Kill, golden, killed_run, run_job, until_done, write_job
from pipelines.shards.dataset import Dataset
from pipelines.shards.planned import read_unit
from pipelines.shards.storage import LocalStorage

pytestmark = pytest.mark.ray
LONG = pytest.mark.skipif("RAYLOOM_CHAOS" not in os.environ, reason="the long tier: make chaos")
MOMENTS = ("survey:0%", "units:0%", "shards:0%", "done:10%", "done:50%", "shards:75%")
CLOCKS = """# Read by every Python process when it starts.
import os, pathlib, sys, time
role = "worker" if any("default_worker.py" in part for part in sys.orig_argv) else "driver"
days = int(os.environ["DAYS"]) * (1 if role == "driver" else -1)
seconds, now, now_ns = days * 86_400, time.time, time.time_ns
if role == "worker" or "jobs.cli" in sys.orig_argv:
    time.time, time.time_ns = lambda: now() + seconds, lambda: now_ns() + seconds * 10**9
    pathlib.Path(os.environ["CLOCKS"], f"{role}-{os.getpid()}").touch()
"""


@pytest.fixture(scope="module", params=PATHS)
def job(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_job(tmp_path_factory.mktemp(request.param) / "job", path=request.param)


@pytest.fixture(scope="module")
def whole(job: Path) -> Truth:
    return golden(job, job.parent / "golden")


@pytest.mark.timeout(600)
def test_a_job_whose_driver_and_worker_are_killed_ends_as_if_nothing_had_happened(
    job: Path, whole: Truth, tmp_path: Path
) -> None:
    """The driver while others pack, then a worker of the run that goes on."""
    kills = [("driver", "shards:10%"), ("worker", "done:10%")]
    assert until_done(job, tmp_path / "data", whole, kills)[1] == []


@pytest.mark.parametrize("job", ["plain"], indirect=True)
def test_a_kill_that_did_not_happen_proves_nothing(job: Path, whole: Truth) -> None:
    """The job has ended before: nobody is at work."""
    kill = killed_run(job, job.parent / "golden", "worker", "done:10%", whole)
    assert (kill.happened, kill.code) == (False, 0)
    assert ["nobody was killed" in problem for problem in kill.problems()] == [True]


@pytest.mark.parametrize(("victim", "code"), [("driver", 0), ("worker", 5), ("raylet", 2), ("worker", None)])
def test_an_end_that_is_not_known_is_told(victim: str, code: int | None) -> None:
    assert Kill(victim, "done:10%", code, happened=True).problems()[0].startswith("I7")
    for known in ENDS[victim]:
        assert Kill(victim, "done:10%", known, happened=True).problems() == []


@pytest.mark.parametrize("job", ["plain"], indirect=True)
def test_an_end_that_is_well_without_a_snapshot_is_told(
    job: Path, whole: Truth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = Kill("raylet", "done:10%", 0, happened=True)
    monkeypatch.setattr("jobs.chaos.kills.killed_run", lambda *_: ended)
    found = until_done(job, tmp_path / "data", whole, [("raylet", "done:10%")])[1]
    assert found == ["raylet at done:10%: I7 exit code 0 without a snapshot"]


@pytest.mark.parametrize("days", [3, pytest.param(-3, marks=LONG)])
@pytest.mark.parametrize("job", ["plain"], indirect=True)
def test_a_driver_days_ahead_of_its_workers_or_behind_changes_nothing(
    days: int, job: Path, whole: Truth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So many ahead of the true time, and workers as many behind.

    By the clock that Python asks, in every process that lists, packs or commits; Ray's own is right.
    """
    (seen := tmp_path / "seen").mkdir()
    (tmp_path / "sitecustomize.py").write_text(CLOCKS)
    monkeypatch.setenv("CLOCKS", str(seen))
    monkeypatch.setenv("DAYS", str(days))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    assert run_job(job, tmp_path / "data") == 0
    assert {path.name.partition("-")[0] for path in seen.iterdir()} == {"driver", "worker"}
    assert swept(LocalStorage(tmp_path / "data"), whole) == []


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
    assert until_done(job, tmp_path / "data", whole, [(victim, moment)])[1] == []
