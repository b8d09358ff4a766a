"""A trial of a storage: does it keep the promises that datasets rest on? Some stores only say so."""

import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from pipelines.seal import seal
from pipelines.shards.retry import RetryingStorage
from pipelines.shards.storage import Storage, store_time

WRITERS, ROUNDS = 8, 3
LARGE_BYTES = 101 * 2**20  # written in parts by every driver: a conditional write of its own
OBJECTS = 20
READS = 3  # of a range
PART = bytes(range(256)) * (5 * 2**12)  # 5 MiB, the smallest part S3 takes
SKEW_S = 300.0
MARK: Final = "runs/storage.json"  # that a store was tried, and passed


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One promise, whether it is kept, and what was seen. Without a `vital` one no dataset is safe."""

    promise: str
    kept: bool
    seen: str
    vital: bool = True


class Untrusted(OSError):
    """The storage breaks a promise that several builders at once would need."""


def try_storage(storage: Storage, *, large: bool = True) -> list[Finding]:
    """Try every promise below a name of its own, which is empty again afterwards.

    `large` also tries a conditional write of LARGE_BYTES, which object stores take in parts.
    """
    root = _new_root()
    trials = [_one_winner, _read_after_write, _list_after_write, _ranges, _deleted, _unfinished, _clock]
    findings = []
    try:
        for trial in [*trials, _large] if large else trials:
            findings.append(_tried(trial, storage, f"{root}/{trial.__name__.strip('_')}"))
    finally:
        _cleared(storage, root)
    return findings


def probe(storage: Storage, *, tries: int | None = None) -> None:
    """Write, read and delete one object; OSError says why a storage cannot be used at all.

    `tries`: an operation at most, so that a storage that nobody answers for is told at once.
    """
    if tries and isinstance(storage, RetryingStorage):
        storage = RetryingStorage(storage.inner, replace(storage.retry, attempts=tries))
    key = f"{_new_root()}/probe"
    storage.create(key, b"probe")
    storage.get(key)
    storage.delete(key)


def _new_root() -> str:
    return f"runs/trial/{uuid.uuid4().hex}"


def require_trusted(storage: Storage, *, single_writer: bool = False) -> None:
    """Refuse a store that lets two builders overwrite each other; Untrusted says which promise it breaks.

    What passed is marked in the dataset and not tried again. Local disks are not tried: a hard link is
    enough there. `single_writer` is the user's word that nobody else builds this dataset meanwhile.
    """
    if single_writer or "://" not in storage.url or storage.size(MARK) is not None:
        return
    probe(storage)
    broken = [f for f in try_storage(storage, large=False) if f.vital and not f.kept]
    if broken:
        raise Untrusted(
            f"{storage.url} does not keep what a dataset rests on: "
            + "; ".join(f"{f.promise} ({f.seen})" for f in broken)
            + ". Run rayloom doctor storage; if no one else writes there, single_writer: true goes on"
        )
    storage.put(MARK, seal({"promises": "kept"}))


def _tried(trial: Callable[[Storage, str], Finding], storage: Storage, key: str) -> Finding:
    try:
        return trial(storage, key)
    except Exception as e:
        return Finding(promise=(trial.__doc__ or "").rstrip("."), kept=False, seen=f"{type(e).__name__}: {e}")


def _cleared(storage: Storage, root: str) -> None:
    for key in storage.list(f"{root}/"):
        storage.delete(key)
    for upload, _ in storage.uploads():
        if root in upload:
            storage.abort(upload)


def _race(storage: Storage, key: str, contents: list[bytes | Path]) -> list[int]:
    """Indices of the writers that were told that they created `key`, all at once."""
    start, won = threading.Barrier(len(contents)), []
    errors: list[Exception] = []

    def write(i: int) -> None:
        start.wait()
        try:
            if storage.create(key, contents[i]):
                won.append(i)
        except Exception as e:
            errors.append(e)

    threads = [threading.Thread(target=write, args=(i,)) for i in range(len(contents))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return won


def _one_winner(storage: Storage, key: str) -> Finding:
    """Of several writers at once exactly one creates an object."""
    promise = f"of {WRITERS} writers at once exactly one creates an object"
    for i in range(ROUNDS):
        contents: list[bytes | Path] = [f"{i} {n}".encode() * 1000 for n in range(WRITERS)]
        won = _race(storage, f"{key}/{i}", contents)
        if len(won) != 1:
            return Finding(promise=promise, kept=False, seen=f"{len(won)} were told that they did")
        if storage.get(f"{key}/{i}") != contents[won[0]]:
            return Finding(promise=promise, kept=False, seen="the object is not the winner's")
        if storage.create(f"{key}/{i}", b"late"):
            return Finding(promise=promise, kept=False, seen="a late writer overwrote it")
    return Finding(promise=promise, kept=True, seen=f"{ROUNDS} races")


def _large(storage: Storage, key: str) -> Finding:
    """The same holds for an object that is written in parts."""
    promise = "the same holds for an object that is written in parts"
    with tempfile.TemporaryDirectory(prefix="rayloom-") as folder:
        path = Path(folder, "large")
        with path.open("wb") as file:
            file.truncate(LARGE_BYTES)
        first, second = storage.create(key, path), storage.create(key, path)
    seen = f"first {first}, second {second}, {LARGE_BYTES:,} bytes each"
    return Finding(promise=promise, kept=first and not second, seen=seen)


def _read_after_write(storage: Storage, key: str) -> Finding:
    """What was written is there at once, and absent before."""
    promise = "what was written is there at once, and absent before"
    for i in range(OBJECTS):
        name = f"{key}/{i}"
        before, made = storage.size(name), storage.create(name, name.encode())
        if before is not None or not made:
            return Finding(promise=promise, kept=False, seen=f"{name} was there before")
        if storage.size(name) != len(name) or storage.get(name) != name.encode():
            return Finding(promise=promise, kept=False, seen=f"{name} reads as something else")
    return Finding(promise=promise, kept=True, seen=f"{OBJECTS} objects")


def _list_after_write(storage: Storage, key: str) -> Finding:
    """A listing has what was just written, and not what was just deleted."""
    promise = "a listing has what was just written, and not what was just deleted"
    names = []
    for i in range(OBJECTS):
        names.append(f"{key}/{i:03}")
        storage.create(names[-1], b"x")
        if list(storage.list(f"{key}/")) != names:
            return Finding(promise=promise, kept=False, seen=f"{names[-1]} is not in it")
    storage.delete(names.pop())
    kept = list(storage.list(f"{key}/")) == names
    return Finding(promise=promise, kept=kept, seen=f"{OBJECTS} listings")


def _ranges(storage: Storage, key: str) -> Finding:
    """A range is the bytes asked for."""
    content = bytes(i * i % 251 for i in range(100_000))
    storage.create(key, content)
    asked = [(0, 1), (0, 100), (1, 1), (99_999, 1), (50_000, 25_000), (99_000, 1000)]
    for _ in range(READS):  # a bit that flipped on the way is right the second time, as whoever reads asks
        asked = wrong = [(o, n) for o, n in asked if storage.get(key, o, n) != content[o : o + n]]
    return Finding(promise="a range is the bytes asked for", kept=not wrong, seen=f"wrong: {wrong or 'none'}")


def _deleted(storage: Storage, key: str) -> Finding:
    """What was deleted is gone, twice is no mistake, and its name can be created again."""
    storage.create(key, b"1")
    storage.delete(key)
    storage.delete(key)
    gone = storage.size(key) is None
    again = storage.create(key, b"2") and storage.get(key) == b"2"
    promise = "what was deleted is gone, and its name can be created again"
    return Finding(promise=promise, kept=gone and again, seen=f"gone {gone}, again {again}")


def _unfinished(storage: Storage, key: str) -> Finding:
    """An upload that never ended, or was aborted, is never visible."""
    before = {upload for upload, _ in storage.uploads()}
    listed = storage.begin_upload(key, PART)
    seen = list(_visible(storage, key, "while it was under way"))
    begun = {upload for upload, _ in storage.uploads()} - before
    if listed and not begun:
        seen.append("the list of unfinished uploads lacks it, so that none could ever be removed")
    for upload in begun:
        storage.abort(upload)
    if begun & {upload for upload, _ in storage.uploads()}:
        seen.append("it is still listed after it was aborted")
    seen += _visible(storage, key, "after it was aborted")
    if not seen and not storage.create(key, b"whole"):
        seen.append("its name could not be created afterwards")
    promise = "an upload that never ended is never visible"
    return Finding(
        promise=promise, kept=not seen, seen="; ".join(seen) or f"{len(begun)} under way, then none"
    )


def _visible(storage: Storage, key: str, when: str) -> Iterator[str]:
    if storage.size(key) is not None:
        yield f"it has a size {when}"
    if key in set(storage.list(key.rpartition("/")[0] + "/")):
        yield f"it is listed {when}"


def _clock(storage: Storage, key: str) -> Finding:
    """Its clock and ours agree."""
    skew = store_time(storage) - time.time()
    promise = f"its clock and ours are less than {SKEW_S:.0f} s apart"
    return Finding(promise=promise, kept=abs(skew) < SKEW_S, seen=f"{skew:+.1f} s", vital=False)
