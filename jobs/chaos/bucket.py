"""The same faults and the same checker on a storage of your own: a bucket, or a folder on a shared disk.

    python -m jobs.chaos.bucket s3://my-bucket/some/folder --rounds 20

It writes below a folder of its own there, a few hundred kilobytes a round, and removes them again.
"""

import argparse
import logging
import random
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final, TypeVar

from jobs.chaos.invariants import Truth, swept, torn, truth_of, watched
from jobs.chaos.small import Work, build, make_pictures, survey, work_on
from jobs.chaos.world import Killed, LostAnswer, Throttled
from pipelines.retry import Budget, Retry
from pipelines.shards.manifest import Conflict
from pipelines.shards.retry import RetryingStorage
from pipelines.shards.storage import LocalStorage, Storage, open_storage

T = TypeVar("T")
BUILDERS: Final = 3
RESTARTS: Final = 8


class Unreliable(Storage):
    """A real storage whose user dies, is throttled, or does not hear the answer, by a seed."""

    def __init__(self, inner: Storage, rng: random.Random, *, kill: float, fault: float) -> None:
        self.inner, self.url = inner, inner.url
        self._rng, self._kill, self._fault = rng, kill, fault

    def _do(self, operation: Callable[[], T]) -> T:
        if self._rng.random() < self._kill:
            raise Killed
        if self._rng.random() < self._fault:
            raise Throttled("503 made here")
        result = operation()
        if self._rng.random() < self._kill:
            raise Killed
        if self._rng.random() < self._fault:
            raise LostAnswer("answer lost here")
        return result

    def create(self, key: str, content: bytes | Path) -> bool:
        return self._do(lambda: self.inner.create(key, content))

    def replace(self, key: str, content: bytes | Path) -> None:
        self._do(lambda: self.inner.replace(key, content))

    def get(self, key: str, offset: int = 0, size: int | None = None) -> bytes:
        return self._do(lambda: self.inner.get(key, offset, size))

    def size(self, key: str) -> int | None:
        return self._do(lambda: self.inner.size(key))

    def list(self, prefix: str) -> Iterator[str]:
        yield from self._do(lambda: [*self.inner.list(prefix)])

    def delete(self, key: str) -> None:
        self._do(lambda: self.inner.delete(key))

    def modified(self, key: str) -> float | None:
        return self._do(lambda: self.inner.modified(key))

    def begin_upload(self, key: str, content: bytes) -> bool:
        return self._do(lambda: self.inner.begin_upload(key, content))

    def uploads(self) -> Iterator[tuple[str, float]]:
        yield from self._do(lambda: [*self.inner.uploads()])

    def abort(self, upload: str) -> None:
        self._do(lambda: self.inner.abort(upload))

    def staging(self) -> AbstractContextManager[Path]:  # type: ignore[override]  # a property of the decorator
        return self.inner.staging()


def play(url: str, seed: int, work: Work, truth: Truth) -> list[str]:
    """Several builders at once on one dataset, killed and started again until all have ended."""
    found: list[str] = []
    inner = open_storage(url)

    def builder(number: int) -> None:
        rng = random.Random(f"{seed} {number}")
        for attempt in range(RESTARTS):
            calm = attempt == RESTARTS - 1
            unreliable = Unreliable(inner, rng, kill=0.0 if calm else 0.02, fault=0.0 if calm else 0.05)
            storage = RetryingStorage(unreliable, Retry(rng=rng, budget=Budget(floor=10_000), first_s=0.01))
            try:
                if build(storage, work, rng) != truth.digest:
                    found.append("I3 another digest")
                return
            except Killed:
                found.extend(torn(inner))
            except Conflict as e:
                found.append(f"a builder of the same work lost: {e}")
                return
            except Exception as e:
                found.append(f"{type(e).__name__}: {e}")
                return

    threads = [threading.Thread(target=builder, args=(number,)) for number in range(BUILDERS)]
    inner.begin_upload("shards/half.tar", b"half")  # as a builder leaves that dies in the middle of a write
    with watched(inner) as seen:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return found + seen + swept(inner, truth, thorough=True)


def main() -> int:
    """Play rounds on a storage, print what did not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    logging.getLogger("rayloom").setLevel(logging.ERROR)  # retries by the hundred
    root = f"{arguments.url.rstrip('/')}/chaos-{uuid.uuid4().hex[:12]}"
    bad = 0
    with tempfile.TemporaryDirectory(prefix="rayloom-chaos-") as folder:
        make_pictures(Path(folder, "source"))
        work = work_on("all", survey(Path(folder, "source")))
        build(golden := LocalStorage(Path(folder, "golden")), work, random.Random(0))
        truth = truth_of(golden)
        for seed in range(arguments.seed, arguments.seed + arguments.rounds):
            url = f"{root}/{seed}"
            found = play(url, seed, work, truth)
            bad += bool(found)
            print(f"seed {seed}: {found[0] if found else 'every invariant holds'}", flush=True)
            if found:
                print(f"    again: python -m jobs.chaos.bucket {arguments.url} --rounds 1 --seed {seed}")
            storage = open_storage(url)
            for key in [*storage.list("")]:
                storage.delete(key)
            for upload, _ in [*storage.uploads()]:
                storage.abort(upload)
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
