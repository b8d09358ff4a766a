"""Builders and gc keep out of each other's way: each says that it is at work, then looks for the other.

Whoever comes second sees the first, whatever the order of their steps, because both write before they read.
"""

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from pipelines.shards.manifest import Conflict
from pipelines.shards.storage import Storage

STARTED: Final = "runs/started/"
COLLECTING: Final = "runs/collecting"
LEASE_S: Final = 3600.0  # that a gc works at most; a mark older than this is of one that died


@contextmanager
def building(storage: Storage) -> Iterator[None]:
    """Work on a dataset as one of its builders, of which there may be any number. Conflict: gc is at work."""
    mark = f"{STARTED}{uuid.uuid4().hex}"
    storage.create(mark, b"")
    try:
        begun, now = storage.modified(COLLECTING), storage.modified(mark)
        if begun is not None and now is not None and now - begun < LEASE_S:
            raise Conflict(
                f"rayloom gc is at work on {storage.url}; run the same job again when it has ended"
            )
        yield
    finally:
        storage.delete(mark)


@contextmanager
def collecting(
    storage: Storage, *, builder_age_s: float, clock: Callable[[], float] = time.monotonic
) -> Iterator[tuple[float, Callable[[], bool]]]:
    """Work as the one gc. Gives the store's time, and a function that says whether there is still time left.

    Conflict: another gc is at work, or a builder has been for less than `builder_age_s`; older ones are dead.
    """
    began = clock()
    if not storage.create(COLLECTING, b""):
        mark = f"{STARTED}{uuid.uuid4().hex}"  # whatever was just written tells the time
        storage.create(mark, b"")
        begun, now = storage.modified(COLLECTING), storage.modified(mark)
        storage.delete(mark)
        if begun is not None and now is not None and now - begun < 2 * LEASE_S:
            raise Conflict(f"another rayloom gc is at work on {storage.url}, or died less than two hours ago")
        storage.delete(COLLECTING)
        if not storage.create(COLLECTING, b""):
            raise Conflict(f"another rayloom gc came first on {storage.url}")
    try:
        now = storage.modified(COLLECTING)
        assert now is not None
        for key in storage.list(STARTED):
            begun = storage.modified(key)
            if begun is not None and now - begun < builder_age_s:
                raise Conflict(
                    f"a builder is at work on {storage.url}, or died less than {builder_age_s / 3600:.0f} "
                    "hours ago; gc waits for it, or --older-than says how long one may take"
                )
        yield now, lambda: clock() - began < LEASE_S / 2
    finally:
        storage.delete(COLLECTING)
