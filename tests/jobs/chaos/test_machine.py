"""What a machine does to a builder: processes that die in the middle of a write, full disks."""

import errno
import multiprocessing
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.chaos.invariants import Truth, swept, torn
from jobs.chaos.small import Work, build
from pipelines.shards.storage import LocalStorage

KILLS = 12


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYLOOM_SANDBOX", "0")


def _again_and_again(work: Work, folder: str) -> None:
    for i in range(1000):
        build(LocalStorage(Path(folder, f"{i:03}")), work, random.Random(i))


def test_processes_killed_at_any_moment_leave_nothing_partial(
    work: Work, truth: Truth, tmp_path: Path
) -> None:
    """Builders fork, build one dataset after the other, and are killed somewhere in one."""
    rng, context, died, uploads = random.Random(0), multiprocessing.get_context("fork"), 0, 0
    work.objects  # noqa: B018 - made once, before the forks
    for attempt in range(KILLS):
        folder = tmp_path / f"{attempt}"
        folder.mkdir()
        process = context.Process(target=_again_and_again, args=(work, str(folder)))
        process.start()
        while not any(folder.iterdir()):
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.15))
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        for data in folder.iterdir():
            storage = LocalStorage(data)
            assert torn(storage) == []
            died += not any((data / "manifest").glob("*.json")) if (data / "manifest").exists() else 1
            assert build(storage, work, random.Random(1)) == truth.digest
            uploads += len(list(storage.uploads()))
            assert swept(storage, truth) == [], f"attempt {attempt}: {data}"
    assert died >= KILLS // 2
    assert uploads, "nobody died in the middle of a write, so gc had nothing to abort"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 96 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=96k", "tmpfs", str(place)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("mounting a small disk needs root")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.parametrize("taken", [0, 16, 40, 60, 80])
def test_a_full_disk_ends_the_run_and_more_room_ends_the_job(
    taken: int, small_disk: Path, work: Work, truth: Truth
) -> None:
    ballast, storage = small_disk / "ballast", LocalStorage(small_disk / "data")
    ballast.write_bytes(b"x" * taken * 1024)
    with pytest.raises(OSError, match="No space left") as caught:
        build(storage, work, random.Random(0))
    assert caught.value.errno == errno.ENOSPC
    assert torn(storage) == []
    ballast.unlink()
    subprocess.run(["mount", "-o", "remount,size=4m", str(small_disk)], check=True)
    assert build(storage, work, random.Random(0)) == truth.digest
    assert swept(storage, truth, thorough=True) == []
