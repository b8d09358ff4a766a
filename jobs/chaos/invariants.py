"""What must hold of a dataset whatever happened while it was built. Every test of faults ends here.

|    | what must hold                          | asked by                                               |
|----|-----------------------------------------|--------------------------------------------------------|
| I1 | nothing is lost, the books close        | violations                                             |
| I2 | nothing is there twice                  | violations                                             |
| I3 | the same bytes                          | violations                                             |
| I4 | no reader ever sees a part              | watched, while builders work; torn, at an instant      |
| I5 | only what is bad is left out            | violations                                             |
| I6 | nothing is left over                    | swept, after the real gc; violations, of uploads alone |
| I7 | an end within a limit, and a known code | kills.Kill.problems, world.STEPS, pytest's timeouts    |
| I8 | training goes on with the same samples  | by I3, for the manifest's digest decides the order:    |
|    | and losses                              | tests/pipelines/loading, tests/jobs/test_elastic.py    |
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import blake3

from pipelines.seal import Corrupt
from pipelines.shards.check import UNREADABLE, find_problems
from pipelines.shards.dataset import Dataset
from pipelines.shards.gc import collect
from pipelines.shards.manifest import Books, Conflict, latest, load, plan_of
from pipelines.shards.quarantine import dropped_keys
from pipelines.shards.storage import STAGING, LocalStorage, Storage

LOOK_S: Final = 0.05  # between two looks of a reader, who also rests four times as long as he looked
Fate = tuple[str, str]  # name of a source object, written | quarantined | duplicate | filtered


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What an undisturbed run makes of the same sources."""

    fates: Mapping[str, str]  # name of each input -> written, quarantined, duplicate, filtered
    digest: str  # of the manifest
    objects: Mapping[str, str] = field(default_factory=dict)  # key -> BLAKE3 of shards, indexes, quarantine
    keys: frozenset[str] = frozenset()  # of all that is there


def truth_of(storage: Storage) -> Truth:
    """Taken from an undisturbed run."""
    dataset = Dataset(storage, load(storage))
    fates = {row.source: "written" for _, row in dataset}
    fates |= {row["name"]: row["status"] for row in dataset.dropped()}
    keys = frozenset(storage.list(""))
    return Truth(fates=fates, digest=dataset.manifest.digest, objects=_objects(dataset), keys=keys)


def _objects(dataset: Dataset) -> dict[str, str]:
    keys = [key for shard in dataset.manifest.shards for key in (shard.key, shard.index_key)]
    keys += [key for plan in dataset.plans() for key in dropped_keys(dataset.storage, plan)]
    return {key: blake3.blake3(dataset.storage.get(key)).hexdigest() for key in keys}


def torn(storage: Storage) -> list[str]:
    """What a reader could see broken at this instant (I4): a snapshot that names what is not whole."""
    if latest(storage) is None:
        return []
    try:
        manifest = load(storage)
        wrong = [
            key
            for shard in manifest.shards
            for key, want in ((shard.key, shard.digest), (shard.index_key, shard.index))
            if blake3.blake3(storage.get(key)).hexdigest() != want
        ]
    except (FileNotFoundError, Corrupt) as e:
        return [f"I4 a reader sees part of a snapshot: {e}"]
    return [f"I4 a reader sees part of {key}" for key in wrong]


@contextmanager
def watched(storage: Storage) -> Iterator[list[str]]:
    """A reader in a thread, who looks every LOOK_S while builders work. Gives what he saw broken (I4)."""
    seen: list[str] = []
    over = threading.Event()

    def read() -> None:
        while not over.is_set():
            began = time.monotonic()
            try:
                broken = torn(storage)
            except Exception as e:
                broken = [f"I4 a reader fails: {type(e).__name__}: {e}"]
            seen.extend(text for text in broken if text not in seen)
            over.wait(max(LOOK_S, 4 * (time.monotonic() - began)))

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def swept(
    storage: Storage, truth: Truth, older_than_s: float = 0.0,
    clock: Callable[[], float] = time.monotonic, *, thorough: bool = False,
) -> list[str]:  # fmt: skip
    """Run the real gc; then every invariant that does not hold, and whatever gc should have removed (I6).

    For datasets on which nobody works any more, whatever died there before. A named run is kept whole: also
    what a worker quarantined who saw the source otherwise than the one whose mark came first.
    """
    try:
        collect(storage, older_than_s=older_than_s, clock=clock)
    except (*UNREADABLE, Conflict) as e:
        return [f"I6 gc fails: {type(e).__name__}: {e}", *violations(storage, truth)]
    found = violations(storage, truth, thorough=thorough)
    kept = tuple(f"quarantine/{plan}/" for plan in map(plan_of, load(storage).plans))
    loose = [key for key in storage.list("") if key not in truth.keys and not key.startswith(kept)]
    found += [f"I6 {key} is left over" for key in loose]
    if isinstance(storage, LocalStorage):  # looked at past our own code, which may not see them
        found += [f"I6 {path.name} is left in {STAGING}" for path in storage.root.glob(f"{STAGING}/*")]
    return found


def violations(storage: Storage, truth: Truth, *, thorough: bool = False) -> list[str]:
    """Every invariant that does not hold, by its number; `thorough` asks `rayloom check` as well."""
    try:
        dataset = Dataset(storage, load(storage))
        written = [row for _, row in dataset]
        dropped = dataset.dropped()
    except UNREADABLE as e:
        return [f"I4 the newest snapshot cannot be read: {type(e).__name__}: {e}"]
    fates = Counter([row.source for row in written] + [row["name"] for row in dropped])
    found = [f"I1 {name} is lost" for name in truth.fates.keys() - fates.keys()]
    found += [f"I1 {name} was never an input" for name in fates.keys() - truth.fates.keys()]
    found += [f"I2 {name} is there {count} times" for name, count in fates.items() if count > 1]
    keys = Counter(row.key for row in written)
    found += [f"I2 key {key} is there {count} times" for key, count in keys.items() if count > 1]
    came = {row.source: "written" for row in written} | {row["name"]: row["status"] for row in dropped}
    found += [
        f"I5 {name} was {status}, want {truth.fates[name]}"
        for name, status in came.items()
        if truth.fates.get(name, status) != status
    ]
    books, told = dataset.manifest.books, Counter(truth.fates.values())
    want = Books(
        inputs=len(truth.fates), written=len(written), quarantined=told["quarantined"],
        duplicates=told["duplicate"], filtered=told["filtered"],
    )  # fmt: skip
    if not books.closed or books != want:
        found.append(f"I1 the books do not close: {books}, want {want}")
    found += _same_bytes(dataset, truth) + torn(storage)
    found += [f"I6 upload {upload!r} was never finished" for upload, _ in storage.uploads()]
    if thorough:
        found += [f"check: {problem}" for problem in find_problems(storage)[0]]
    return found


def _same_bytes(dataset: Dataset, truth: Truth) -> list[str]:
    found = []
    if dataset.manifest.digest != truth.digest:
        found.append(f"I3 manifest digest {dataset.manifest.digest[:16]}, want {truth.digest[:16]}")
    if truth.objects:
        try:
            objects = _objects(dataset)
        except FileNotFoundError as e:
            return [*found, f"I4 {e}"]
        found += [
            f"I3 {key} has other bytes" for key in truth.objects if objects.get(key) != truth.objects[key]
        ]
    return found
