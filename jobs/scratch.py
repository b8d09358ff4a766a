"""A folder for the temporary files of a job and its workers, which goes away however the job ends."""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = "rayloom-job-"
SETTLED_S = 60.0  # a folder younger than this may be about to be locked by its owner


@contextmanager
def scratch() -> Iterator[Path]:
    """Set TMPDIR for what this process starts. Removes folders of jobs that were killed before they could.

    The owner holds a lock on its folder; the system drops it when the owner dies, wherever it ran.
    """
    base = Path(tempfile.gettempdir())
    for left in base.glob(f"{PREFIX}*"):
        _remove_if_left(left)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    before = os.environ.get("TMPDIR")
    os.environ["TMPDIR"] = str(folder)
    try:
        yield folder
    finally:
        if before is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = before
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _remove_if_left(folder: Path) -> None:
    """Unless it is somebody else's, new, or locked by a job that lives."""
    with suppress(OSError):  # BlockingIOError among them; a link instead of a folder too
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            state = os.fstat(handle)
            if state.st_uid == os.getuid() and time.time() - state.st_mtime > SETTLED_S:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(handle)
