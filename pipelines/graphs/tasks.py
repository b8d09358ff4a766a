"""Work for many workers, as tasks of Ray: one that dies with its worker is given again, but not for ever."""

import gc
import logging
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from functools import cache
from typing import Any

import ray
from ray import exceptions

CPUS = 1.0  # of one task
AHEAD = 2  # tasks for each core: behind the one that runs another waits, so that no core waits for the driver
LIVES = 8  # deaths of a worker over one task until it is given up: 63 s of pauses together
PAUSE_S = 1.0  # before the third attempt, doubled each time: a shortage of memory may pass
DIED = (
    exceptions.WorkerCrashedError, exceptions.OutOfMemoryError, exceptions.NodeDiedError,
    exceptions.LocalRayletDiedError, exceptions.ObjectLostError, exceptions.ObjectReconstructionFailedError,
)  # fmt: skip  # of the process, the machine, or what it had answered
log = logging.getLogger("rayloom")


class WorkersLost(ConnectionError):
    """One task has ended every worker that it was given to."""


class Tasks:
    """`work` of items, elsewhere. A task that dies with its worker may be done twice: it is idempotent.

    Not by Ray's own retries: without end they hide a task that always kills its worker, or memory that never
    suffices, and with an end they do not say whose it was.
    """

    def __init__(self, work: Callable[[Any], Any], what: str) -> None:
        def settled(item: Any) -> Any:
            _settle()
            return work(item)

        self._remote = ray.remote(num_cpus=CPUS, max_retries=0)(settled).options(name=what)
        self._what = what
        self._given: dict[Any, tuple[Any, int]] = {}  # what was asked, and how many workers died over it

    def give(self, item: Any, deaths: int = 0) -> Any:
        """A task to wait for."""
        if deaths > 1:  # not in the worker: where memory is short it would be killed while it sleeps
            time.sleep(PAUSE_S * 2 ** (deaths - 2))
        task = self._remote.remote(item)
        self._given[task] = item, deaths
        return task

    def take(self, task: Any) -> tuple[bool, Any]:
        """True and its answer; or False and the task in its place. WorkersLost after LIVES of them."""
        item, deaths = self._given.pop(task)
        try:
            return True, ray.get(task)
        except DIED as death:
            if deaths + 1 < LIVES:
                log.warning("%s: a worker died (%s); another goes on", self._what, _told(death))
                return False, self.give(item, deaths + 1)
            raise WorkersLost(
                f"{self._what}: {LIVES} workers died over the same task, the last one so: {_told(death)}; "
                "if memory is short, take fewer workers, smaller shards or a larger machine; the same "
                "command goes on where this one was"
            ) from None


def spread(work: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
    """`map` by tasks, a few ahead of what feeds them; here, while Ray is not connected."""
    if not ray.is_initialized():
        yield from map(work, items)
        return
    tasks, most = Tasks(work, "the listing"), _ahead()
    waiting: deque[Any] = deque()

    def first() -> Any:
        done, answer = tasks.take(waiting.popleft())
        while not done:
            done, answer = tasks.take(answer)
        return answer

    for item in items:
        waiting.append(tasks.give(item))
        if len(waiting) > most:
            yield first()
    while waiting:
        yield first()


def each(work: Callable[[int], Any], units: int, what: str) -> Generator[Any, None, None]:
    """`work` of every unit in [0, units), in whatever order the answers come."""
    tasks, given = Tasks(work, what), 0
    waiting: list[Any] = []
    try:
        for done in range(units):
            finished = False
            while not finished:
                most = min(units, done + _ahead())  # a cluster may grow meanwhile
                waiting += [tasks.give(unit) for unit in range(given, most)]
                given = max(given, most)
                [ready], waiting = ray.wait(waiting, num_returns=1)
                finished, answer = tasks.take(ready)
                waiting += [] if finished else [answer]
            yield answer
    finally:
        for left in waiting:  # by force: an exception somewhere in a client of a store leaves it unusable
            ray.cancel(left, force=True)


def cores() -> int:
    """Of the cluster, one at least."""
    resources: Mapping[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return max(1, int(resources.get("CPU", 1)))


def _ahead() -> int:
    """Tasks that are given to Ray at a time."""
    return int(AHEAD * cores() / CPUS)


def _told(error: BaseException) -> str:
    """The first sentence: what follows it is advice on settings of Ray's."""
    return str(error).strip().partition("\n")[0].partition(". ")[0].rstrip(".") or type(error).__name__


@cache
def _settle() -> None:
    """In a worker, once: what was imported is not looked through for garbage again and again."""
    gc.freeze()
