"""The real plan, pack and commit in a simulated world: crashes, races and lies of a store by the thousand.

python -m jobs.chaos.simulation --schedules 100000
python -m jobs.chaos.simulation --seed 7        one schedule again, with its history
"""

import argparse
import logging
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from jobs.chaos.invariants import Truth, swept, torn, truth_of, violations
from jobs.chaos.memo import Memo
from jobs.chaos.small import Work, build, make_pictures, plain_work, survey, touch, work_on
from jobs.chaos.world import Actor, Chances, MemoryStorage, World
from pipelines.answers import Unavailable
from pipelines.retry import Budget, Retry
from pipelines.shards import manifest
from pipelines.shards.dataset import Dataset
from pipelines.shards.gc import collect
from pipelines.shards.manifest import Conflict
from pipelines.shards.pack import pack_unit
from pipelines.shards.planned import read_plan
from pipelines.shards.retry import RetryingStorage
from pipelines.shards.storage import Storage

RESTARTS: Final = 10  # of builders that keep dying; the last ones are left in peace
AGE_S: Final = 3600.0  # of gc in the simulated world
CHANGING: Final = ("put", "begin", "replace", "delete")
BROKEN: Final = ("overwrites", "partial")  # put-if-absent is ignored; half of an object is visible
KINDS: Final = {"one": 3, "two": 1, "rivals": 1, "append": 1, "plain": 1, "two plain": 2}  # how often
SINGLE: Final = ("one", "plain")  # builder
FLIPPED: Final = 150  # steps among which a source of a plain job is written to
COMMAND: Final = "python -m jobs.chaos.simulation --seed"


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What there is to build, on top of which objects, and how it must end."""

    works: tuple[Work, ...]
    objects: dict[str, tuple[bytes, float]]
    truths: dict[str, list[Truth]]  # by the name of the work that may have won; each is right


class Simulator:
    """Makes schedules of seeds: the first kill one builder at every step, the others draw their faults."""

    def __init__(self, folder: Path) -> None:
        os.environ["RAYLOOM_SANDBOX"] = "0"
        logging.getLogger("rayloom").setLevel(logging.CRITICAL)  # retries by the thousand
        (tars := folder / "tars").mkdir()
        self.memo = Memo(tars)
        (staging := folder / "staging").mkdir()
        self.staging = staging
        make_pictures(folder / "source")
        shutil.copytree(folder / "source", folder / "plain")
        rows = survey(folder / "source")
        fewer = [row for row in rows if row["name"] not in ("2.png", "3.png")]
        first = [row for row in rows if row["name"] in ("0.png", "1.png", "bad.png")]
        whole, other, base = work_on("all", rows), work_on("other", fewer), work_on("base", first)
        plain = plain_work("plain", folder / "plain")
        self.memo.changed = lambda weather: touch(folder / "plain" / "2.png", changed=weather)
        with self.memo():
            bare, based = self._scene((whole, other)), self._scene((base,))
            rest = [row for row in rows if row["name"] not in ("0.png", "1.png", "bad.png")]
            later = work_on("later", rest, parent=self._dataset(based.objects))
            grown = self._scene((later,), based.objects)
            unopened = self._scene((plain,), weathers=(False, True))
        grown = Scene(works=grown.works, objects=based.objects, truths=grown.truths)
        alone = Scene(works=(whole,), objects={}, truths=bare.truths)
        unopened = Scene(works=(plain,), objects={}, truths=unopened.truths)
        self.scenes = {
            "one": alone, "two": alone, "append": grown, "plain": unopened, "two plain": unopened,
            "rivals": Scene(works=(whole, other), objects={}, truths=bare.truths),
        }  # fmt: skip
        self.points = [(kind, point) for kind in SINGLE for point in self._count_steps(kind)]

    def _scene(
        self, works: tuple[Work, ...], objects: Any = None, weathers: Sequence[bool] = (False,)
    ) -> Scene:
        truths: dict[str, list[Truth]] = {}
        for work in works:
            for weather in weathers:
                world = World(0, Chances(), self.staging)
                world.objects.update(objects or {})
                self.memo.weather = partial(bool, weather)
                storage = MemoryStorage(world)
                build(storage, work, random.Random(0))
                truths.setdefault(work.name, []).append(truth_of(storage))
        return Scene(works=works, objects=dict(world.objects), truths=truths)

    def _dataset(self, objects: dict[str, tuple[bytes, float]]) -> Dataset:
        world = World(0, Chances(), self.staging)
        world.objects.update(objects)
        return Dataset(storage := MemoryStorage(world), manifest.load(storage))

    def _count_steps(self, kind: str) -> list[float]:
        """Every point at which an undisturbed builder can die: before and after each of its steps."""
        with self.memo():
            world = World(0, Chances(), self.staging)
            actor = self._builder("builder", self.scenes[kind].works[0], [])
            world.run(actor)
        return [step + half for step in range(1, actor.steps + 1) for half in (0.0, 0.5)]

    def run(self, seed: int, *, broken: str = "") -> tuple[list[str], World]:
        """Play one schedule. What does not hold afterwards, and the world with its history."""
        rng = random.Random(seed)
        kill_at: list[float | None] = []
        if seed < len(self.points):
            kind, point = self.points[seed]
            chances, kill_at = Chances(), [point]
        else:
            kind, chances = rng.choices([*KINDS], [*KINDS.values()])[0], _drawn(rng)
            if kind in SINGLE and rng.random() < 0.5:
                kill_at = [point for _, point in rng.choices(self.points, k=2)]
        if broken:  # two builders, many changes between them, and nothing else wrong than the store
            kind, chances, kill_at = "rivals", Chances(switches=40), []
            chances.overwrites, chances.partial = broken == "overwrites", broken == "partial"
        scene = self.scenes[kind]
        world = World(seed, chances, self.staging)
        world.objects.update(scene.objects)
        flips = rng.randrange(FLIPPED)  # some end before
        self.memo.weather = lambda: "plain" in kind and world.steps >= flips
        found: list[str] = []
        world.watch = self._reader(world, found)
        outcomes: list[tuple[str, str]] = []
        for attempt in range(RESTARTS):
            if attempt >= RESTARTS - 2:
                world.now += 2 * AGE_S  # whoever died is dead to all by now
                world.chances = Chances(overwrites=chances.overwrites, partial=chances.partial)
            actors = self._actors(scene, kind, world, outcomes, attempt)
            if kill_at:  # dies there, is taken up again, and may die there
                actors[0].kill_at = kill_at.pop(0)
            world.run(*actors)
            found += [
                f"{a.name}: {type(a.error).__name__}: {a.error}" for a in actors if _unexpected(a.error)
            ]
            if outcomes or found:
                break
            world.now += rng.choice((1.0, 600.0, 2 * AGE_S))
            if rng.random() < 0.3:
                found += self._gc(world, found)
        return found + self._judged(world, scene, outcomes), world

    def _actors(
        self, scene: Scene, kind: str, world: World, outcomes: list[tuple[str, str]], attempt: int
    ) -> list[Actor]:
        works = scene.works if kind == "rivals" else scene.works[:1] * (1 if kind in SINGLE else 2)
        actors = [self._builder(f"{work.name}{attempt}.{i}", work, outcomes) for i, work in enumerate(works)]
        if kind not in SINGLE and world.rng.random() < 0.5:
            actors.append(Actor("zombie", lambda world: _zombie(self._storage(world), world.rng)))
        if kind not in SINGLE and world.rng.random() < 0.2:
            actors.append(Actor("gc", lambda world: _collect(self._storage(world), world)))
        return actors

    def _builder(self, name: str, work: Work, outcomes: list[tuple[str, str]]) -> Actor:
        def task(world: World) -> None:
            outcomes.append((work.name, build(self._storage(world), work, world.rng)))

        return Actor(name, task)

    @staticmethod
    def _storage(world: World) -> Storage:
        retry = Retry(clock=world, rng=world.rng, budget=Budget(), attempts=6)
        return RetryingStorage(MemoryStorage(world), retry)

    @staticmethod
    def _reader(world: World, found: list[str]) -> Callable[[], None]:
        storage = MemoryStorage(world)

        def look() -> None:
            _, operation, key = world.history[-1]
            changed = operation in CHANGING and key.startswith(("manifest/", "shards/", "index/"))
            if changed and (operation != "put" or key.startswith("manifest/")):
                with world.unseen():
                    found.extend(torn(storage))

        return look

    def _gc(self, world: World, found: list[str]) -> list[str]:
        with world.unseen():
            _collect(MemoryStorage(world), world)
        return []

    def _judged(self, world: World, scene: Scene, outcomes: list[tuple[str, str]]) -> list[str]:
        storage = MemoryStorage(world)
        if not outcomes:
            return [f"I7 nobody finished in {RESTARTS} attempts"]
        with world.unseen():
            if found := torn(storage):
                return found
            winner = manifest.load(storage).plans[-1].partition("/")[0]
            truths = scene.truths[winner]  # one of them, by what fits best
            found = min((_untrue(storage, truth) for truth in truths), key=len)
            found += [f"two outcomes: {sorted(set(outcomes))}"] if len(set(outcomes)) > 1 else []
            if world.rng.random() < 0.2:
                world.now += 2 * AGE_S
                after = min((swept(storage, truth, AGE_S, lambda: world.now) for truth in truths), key=len)
                found += [f"after gc: {text}" for text in after]
        return found


def _untrue(storage: Storage, truth: Truth) -> list[str]:
    """What does not hold before gc has been there."""
    return [text for text in violations(storage, truth) if not text.startswith("I6")]


def _drawn(rng: random.Random) -> Chances:
    """Each kind of fault is on in some schedules, and then more or less likely: FoundationDB's buggify."""

    def some(most: float) -> float:
        return rng.uniform(0, most) if rng.random() < 0.4 else 0.0

    return Chances(
        kill=some(0.08), throttle=some(0.2), lost_answer=some(0.2), stale_list=some(0.5),
        switches=rng.randrange(1, 13),
    )  # fmt: skip


def _zombie(storage: Storage, rng: random.Random) -> None:
    """A worker of some run, started again by mistake, or long after everybody else has gone."""
    plans = [key.split("/")[1] for key in storage.list("runs/") if key.endswith("/plan.json")]
    if plans:
        plan = rng.choice(plans)
        with suppress(FileNotFoundError):  # gc was there first
            pack_unit(storage, plan, rng.randrange(read_plan(storage, plan)["units"]))


def _collect(storage: Storage, world: World) -> None:
    with suppress(FileNotFoundError, Conflict):  # no snapshot yet, or somebody is at work
        collect(storage, older_than_s=AGE_S, clock=lambda: world.now)


def _unexpected(error: BaseException | None) -> bool:
    """A builder may lose a race or its storage, and a worker its plan to gc; nothing else."""
    return error is not None and not isinstance(error, Conflict | Unavailable)


def main() -> int:
    """Play schedules, or one alone; print what failed, and how to see it again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--schedules", type=int, default=10_000)
    parser.add_argument("--start", type=int, default=0, help="first seed")
    parser.add_argument("--seed", type=int, help="this one alone, with its history")
    parser.add_argument(
        "--broken", default="", choices=["", "overwrites", "partial"], help="a store that lies"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rayloom-chaos-") as folder:
        simulator = Simulator(Path(folder))
        if arguments.seed is not None:
            found, world = simulator.run(arguments.seed, broken=arguments.broken)
            print(*(" ".join(step) for step in world.history), sep="\n")
            print(*(found or ["every invariant holds"]), sep="\n")
            return bool(found)
        began = time.perf_counter()
        failures = play(
            simulator, range(arguments.start, arguments.start + arguments.schedules), arguments.broken
        )
        rate = arguments.schedules / (time.perf_counter() - began)
    print(f"{arguments.schedules:,} schedules, {rate:,.0f} a second, {len(failures)} failed")
    for seed, found in list(failures.items())[:20]:
        print(f"seed {seed}: {found[0]}\n    again: {COMMAND} {seed}")
    return bool(failures)


def play(simulator: Simulator, seeds: range, broken: str = "") -> dict[int, list[str]]:
    """Seeds whose schedule ended badly, with what does not hold."""
    with simulator.memo():
        results = ((seed, simulator.run(seed, broken=broken)[0]) for seed in seeds)
        return {seed: found for seed, found in results if found}


if __name__ == "__main__":
    sys.exit(main())
