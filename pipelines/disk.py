"""Full disks, by name: an error of a write says neither which disk it was nor what is left there."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TEMPORARY = "temporary files, which go where TMPDIR says"
FULL = (errno.ENOSPC, errno.EDQUOT)
NEARLY_BYTES = 2**20  # with more than that left, a write that names no file was to another disk


@contextmanager
def told_when_full(folder: Path, use: str) -> Iterator[None]:
    """Add to the error of a full disk where it was, what is free there, and the `use` of what is in `folder`.

    Errors that name a file keep that name; what an inner block has told stays.
    """
    try:
        yield
    except OSError as e:
        if e.errno not in FULL or " free on " in (e.strerror or ""):
            raise
        named = e.filename2 or e.filename  # a copy names both, and it is the second that was written
        place = Path(os.fsdecode(named) if isinstance(named, str | bytes) else folder).absolute()
        free, disk = _left(place)
        if e.errno == errno.ENOSPC and not named and free > NEARLY_BYTES:
            raise
        purpose = f" for {use}" if place.is_relative_to(folder.absolute()) else ""
        text = f"{e.strerror}{purpose}: {free:,} bytes are free on {disk}"
        raise OSError(e.errno, text, str(place)) from e


def _left(place: Path) -> tuple[int, Path]:
    """Free bytes, and where the disk is mounted."""
    there = next(path for path in (place, *place.parents) if path.exists())
    state = os.statvfs(there)
    disk = next(path for path in (there.resolve(), *there.resolve().parents) if path.is_mount())
    return state.f_bavail * state.f_frsize, disk
