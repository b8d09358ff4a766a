"""A folder for the temporary files of a job and its workers, which goes away however the job ends."""

import fcntl
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from pipelines.disk import TEMPORARY, told_when_full

PREFIX = "rayloom-job-"
SETTLED_S = 60.0  # a folder younger than this may be about to be locked by its owner


_changing = threading.Lock()
_shared = ExitStack()  # holds the folder while there are users
_users = 0


@contextmanager
def scratch() -> Iterator[Path]:
    """Have this process, and what it starts meanwhile, write temporary files into a folder of their own.

    Whoever comes while there is one shares it, and the last to leave removes it. Folders of jobs that were
    killed before they could are removed first: an owner holds a lock on its folder, and the system drops it
    when the owner dies, wherever it ran.
    """
    global _users
    with _changing:
        if not _users:
            _shared.enter_context(_folder())
        _users += 1
        folder = Path(tempfile.gettempdir())
    try:
        with told_when_full(folder, TEMPORARY):
            yield folder
    finally:
        with _changing:
            _users -= 1
            if not _users:
                _shared.close()


@contextmanager
def _folder() -> Iterator[None]:
    base = Path(tempfile.gettempdir())
    for left in base.glob(f"{PREFIX}*"):
        _remove_if_left(left)
    folder = tempfile.mkdtemp(prefix=PREFIX, dir=base)
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    with suppress(OSError):  # a file system without locks: nobody can lock it to remove it either
        fcntl.flock(lock, fcntl.LOCK_EX)
    before = os.environ.get("TMPDIR"), tempfile.tempdir
    os.environ["TMPDIR"] = tempfile.tempdir = folder  # the second is what this process goes by from now on
    try:
        yield
    finally:
        variable, tempfile.tempdir = before
        if variable is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = variable
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
