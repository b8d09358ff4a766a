"""Builders and gc keep out of each other's way: each says that it is at work, then looks for the other.

Whoever comes second sees the first, whatever the order of their steps, because both write before they read.
Builders of the same thing share what they write, until one of them forgets it.
"""

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import blake3

from pipelines.seal import Corrupt
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


def attempt(storage: Storage, survey: str) -> str:
    """A name of its own for a try at this survey, which whoever begins before it is forgotten shares.

    A later try gets another name: what is forgotten slowly is nothing that somebody works on anew.
    """
    storage.create(attempt_key(survey), uuid.uuid4().bytes)
    if not (which := _which(storage, survey)):
        raise overtaken(storage)
    return f"{survey}-{which}"


def forgotten(storage: Storage, survey: str) -> bool:
    """Whether what `attempt` named this survey for is over."""
    name, _, mine = survey.rpartition("-")
    return _which(storage, name) != mine


def end_attempt(storage: Storage, survey: str) -> None:
    """It is over, and nobody who shares it may commit; to be called before any of it is removed."""
    if not forgotten(storage, survey):
        storage.delete(attempt_key(survey.rpartition("-")[0]))


@contextmanager
def sharing(storage: Storage, survey: str, *, tries: bool) -> Iterator[None]:
    """Work on files of a survey, by `tries` named by `attempt`. Conflict: another builder forgot them."""
    try:
        yield
    except (OSError, AssertionError, Corrupt) as e:
        lost = isinstance(e, FileNotFoundError) and f"runs/{survey}/" in f"{e}"
        if lost or (tries and forgotten(storage, survey)):
            raise overtaken(storage) from e
        raise


def attempt_key(survey: str) -> str:
    """Where it is kept what an `attempt` is named by; older than all that is written by that name."""
    return f"runs/{survey}/attempt"


def _which(storage: Storage, survey: str) -> str:
    try:
        return str(blake3.blake3(storage.get(attempt_key(survey))).hexdigest()[:8])
    except FileNotFoundError:
        return ""


def overtaken(storage: Storage) -> Conflict:
    """What to tell whoever shared files that are gone."""
    return Conflict(f"another builder of {storage.url} ended first; run the same again")


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
