"""Temporary files of a job: gone at its end, and after the next start when it was killed."""

import os
import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest

import jobs.scratch
from jobs.scratch import PREFIX, SETTLED_S, scratch

ROOT = Path(__file__).parents[2]
HOLDING = """
import sys, tempfile
from jobs.scratch import scratch
with scratch() as folder:
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where folders are made, by a process that has none yet: the cluster of other tests has one."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(jobs.scratch, "_users", 0)
    monkeypatch.setattr(jobs.scratch, "_shared", ExitStack())
    return tmp_path


def hold(base: Path) -> tuple[subprocess.Popen[str], Path]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDING], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(base)},
    )  # fmt: skip
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def grown_old(folder: Path) -> Path:
    stamp = folder.stat().st_mtime - 2 * SETTLED_S
    os.utime(folder, (stamp, stamp))
    return folder


def test_what_the_job_starts_writes_into_its_folder_and_that_goes_with_it(base: Path) -> None:
    before = os.environ.get("TMPDIR")
    with scratch() as folder:
        code = "import tempfile; print(tempfile.mkdtemp())"
        made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert Path(made.stdout.strip()).parent == folder
        assert Path(tempfile.mkdtemp()).parent == folder  # the driver's own: a plan may be 25 GB
    assert os.environ.get("TMPDIR") == before
    assert tempfile.gettempdir() == str(base)
    assert not list(base.iterdir())


def test_whoever_comes_meanwhile_shares_the_folder_and_the_last_takes_it_away(base: Path) -> None:
    first, second = scratch(), scratch()
    folder = first.__enter__()
    assert second.__enter__() == folder
    first.__exit__(None, None, None)
    assert Path(tempfile.mkdtemp()).parent == folder
    second.__exit__(None, None, None)
    assert not list(base.iterdir())


def test_the_folder_of_a_killed_job_goes_when_the_next_one_starts(base: Path) -> None:
    process, folder = hold(base)
    (grown_old(folder) / "left").mkdir()
    process.send_signal(signal.SIGKILL)
    process.wait()
    grown_old(folder)
    with scratch():
        assert not folder.exists()


def test_the_folders_of_living_jobs_of_young_ones_and_links_stay(base: Path) -> None:
    process, held = hold(base)
    grown_old(held)
    young = base / f"{PREFIX}young"
    young.mkdir()
    (base / "precious").mkdir()
    link = base / f"{PREFIX}link"
    link.symlink_to(base / "precious")
    grown_old(base / "precious")
    with scratch():
        assert held.exists()
        assert young.exists()
        assert (base / "precious").exists()
    process.communicate("", timeout=30)
    assert not held.exists()
