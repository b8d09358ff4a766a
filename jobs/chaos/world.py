"""A world for the simulator: storage in memory, virtual time, actors of which one at a time takes a step."""

import _thread
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pipelines.shards.storage import Storage

CHANGES: Final = 150  # steps among which the changes of actor are
STEPS: Final = 20_000  # of all actors of one schedule together; more is an endless loop (I7)


class Killed(BaseException):
    """The actor is dead: no `except Exception` of the code under test may survive it."""


class Throttled(OSError):
    """503: nothing happened."""

    status = 503
    headers = {"Retry-After": "1"}  # noqa: RUF012


class LostAnswer(ConnectionError):
    """It may have happened, nobody knows."""


@dataclass(kw_only=True)
class Chances:
    """How likely each fault is at a step, and whether the store is an honest one."""

    kill: float = 0.0
    throttle: float = 0.0
    lost_answer: float = 0.0
    stale_list: float = 0.0
    switches: int = 4  # from one actor to another, at steps drawn beforehand
    overwrites: bool = False  # the broken store: put-if-absent is ignored
    partial: bool = False  # the broken store: half an object is visible while it is written


@dataclass
class Actor:
    """One process: a builder or a worker. It dies before step `kill_at`, or after it when that ends in .5."""

    name: str
    task: Callable[["World"], None]
    kill_at: float | None = None
    steps: int = 0
    dead: bool = False
    error: BaseException | None = None
    turn: threading.Lock = field(default_factory=threading.Lock)  # held until it is this one's turn


class World:
    """Runs actors one at a time; at every operation `rng` decides who goes on and what fails."""

    def __init__(self, seed: int, chances: Chances, folder: Path) -> None:
        self.rng = random.Random(seed)
        self.chances, self.folder = chances, folder
        self._changes = {self.rng.randrange(CHANGES) for _ in range(chances.switches)}
        self.objects: dict[str, tuple[bytes, float]] = {}
        self.before: list[str] = []  # what a stale listing shows
        self.pending: dict[str, float] = {}
        self.now = 1_000_000.0
        self.steps = 0
        self.history: list[tuple[str, str, str]] = []  # actor, operation, key
        self.watch: Callable[[], None] = lambda: None
        self._actors: list[Actor] = []
        self._current: Actor | None = None
        self._over = threading.Lock()

    def run(self, *actors: Actor) -> None:
        """Until all have ended or died. Their errors stay with them."""
        if len(actors) == 1:  # nobody to switch to, no thread needed
            self._actors, self._current = [*actors], actors[0]
            self._live(actors[0])
        else:
            self._actors = [*actors]
            self._over.acquire()
            for actor in actors:
                actor.turn.acquire()
                _thread.start_new_thread(self._thread, (actor,))  # a tenth of what threading.Thread costs
            self._hand_over(self.rng.choice(self._actors))
            with self._over:
                pass
        self._actors, self._current = [], None

    def _thread(self, actor: Actor) -> None:
        actor.turn.acquire()
        self._live(actor)
        self._actors.remove(actor)
        if self._actors:
            self._hand_over(self.rng.choice(self._actors))
        else:
            self._over.release()

    def _live(self, actor: Actor) -> None:
        try:
            actor.task(self)
        except Killed:
            pass
        except BaseException as e:
            actor.error = e

    def _hand_over(self, actor: Actor) -> None:
        self._current = actor
        actor.turn.release()

    @contextmanager
    def unseen(self) -> Iterator[None]:
        """Look at the storage without taking steps: nothing fails and nobody else goes on."""
        actor, self._current = self._current, None
        try:
            yield
        finally:
            self._current = actor

    @property
    def acting(self) -> str:
        """The actor that is at work, or nothing for somebody who looks on."""
        return self._current.name if self._current else ""

    def sleep(self, seconds: float) -> None:
        """The clock of retries: time goes on, and somebody else may go first."""
        self.now += seconds
        self._switch(sure=True)

    def time(self) -> float:
        """What the clock of retries says."""
        return self.now

    def _switch(self, *, sure: bool = False) -> None:
        """Let another go on: few changes at random places find most races (Burckhardt et al., 2010)."""
        actor = self._current
        if actor and len(self._actors) > 1 and (sure or self.steps in self._changes):
            other = self.rng.choice(self._actors)
            if other is not actor:
                self._hand_over(other)
                actor.turn.acquire()

    def step(self, operation: str, key: str, effect: Callable[[], object]) -> object:
        """One operation on the storage by whoever's turn it is."""
        actor, chances, rng = self._current, self.chances, self.rng
        if actor is None:  # the checker looks on: no faults
            return effect()
        self._switch()
        if actor.dead:
            raise Killed
        actor.steps += 1
        self.steps += 1
        self.now += 0.01
        self.history.append((actor.name, operation, key))
        if self.steps > STEPS:
            raise AssertionError(f"I7 no end after {STEPS} steps")
        if actor.kill_at == actor.steps or (chances.kill and rng.random() < chances.kill):
            actor.dead = True
            raise Killed
        if chances.throttle and rng.random() < chances.throttle:
            raise Throttled(f"503 {operation} {key}")
        result = effect()
        self.watch()
        if actor.kill_at == actor.steps + 0.5:
            actor.dead = True
            raise Killed
        if chances.lost_answer and rng.random() < chances.lost_answer:
            raise LostAnswer(f"no answer to {operation} {key}")
        return result


class MemoryStorage(Storage):
    """The storage of a world. Every operation is one of its steps."""

    def __init__(self, world: World) -> None:
        self.world, self.url = world, "memory://world"

    def create(self, key: str, content: bytes | Path) -> bool:
        data = content.read_bytes() if isinstance(content, Path) else content
        world = self.world

        def effect() -> bool:
            if key in world.objects and not world.chances.overwrites:
                return False
            world.before = sorted(world.objects)
            world.objects[key] = (data, world.now)
            return True

        upload = f"{key} by {world.acting}"
        if world.acting:  # and dies on the way: it stays
            world.pending[upload] = world.now
        if world.chances.partial and world.rng.random() < 0.5:
            world.step(
                "begin", key, lambda: world.objects.setdefault(key, (data[: len(data) // 2], world.now))
            )
            world.step("put", key, lambda: world.objects.update({key: (data, world.now)}))
            return True
        try:
            created = bool(world.step("put", key, effect))
        except Exception:  # not Killed: who lives cleans up
            world.pending.pop(upload, None)
            raise
        world.pending.pop(upload, None)
        return created

    def replace(self, key: str, content: bytes | Path) -> None:
        data = content.read_bytes() if isinstance(content, Path) else content
        self.world.step("replace", key, lambda: self.world.objects.update({key: (data, self.world.now)}))

    def get(self, key: str, offset: int = 0, size: int | None = None) -> bytes:
        def effect() -> bytes:
            if key not in self.world.objects:
                raise FileNotFoundError(key)
            data = self.world.objects[key][0]
            return data if size is None and not offset else data[offset:][:size]

        content = self.world.step("get", key, effect)
        assert isinstance(content, bytes)
        return content

    def size(self, key: str) -> int | None:
        found = self.world.objects
        size = self.world.step("size", key, lambda: len(found[key][0]) if key in found else None)
        return size if isinstance(size, int) else None

    def list(self, prefix: str) -> Iterator[str]:
        world = self.world
        stale = bool(world.acting) and world.rng.random() < world.chances.stale_list

        def effect() -> object:
            return [
                key for key in (world.before if stale else sorted(world.objects)) if key.startswith(prefix)
            ]

        found = world.step("list", prefix, effect)
        assert isinstance(found, list)
        yield from found

    def delete(self, key: str) -> None:
        self.world.step("delete", key, lambda: self.world.objects.pop(key, None))

    def modified(self, key: str) -> float | None:
        found = self.world.objects
        moment = self.world.step("modified", key, lambda: found[key][1] if key in found else None)
        return moment if isinstance(moment, float) else None

    def begin_upload(self, key: str, content: bytes) -> bool:
        self.world.step("upload", key, lambda: self.world.pending.setdefault(key, self.world.now))
        return True

    def uploads(self) -> Iterator[tuple[str, float]]:
        yield from list(self.world.pending.items())

    def abort(self, upload: str) -> None:
        self.world.step("abort", upload, lambda: self.world.pending.pop(upload, None))

    @contextmanager
    def staging(self) -> Iterator[Path]:
        yield self.world.folder
