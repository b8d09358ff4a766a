"""What must hold of a dataset whatever happened while it was built. Every test of faults ends here."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import blake3

from pipelines.seal import Corrupt
from pipelines.shards.check import UNREADABLE, find_problems
from pipelines.shards.dataset import Dataset
from pipelines.shards.manifest import latest, load
from pipelines.shards.quarantine import dropped_keys
from pipelines.shards.storage import Storage

Fate = tuple[str, str]  # name of a source object, written | quarantined | duplicate | filtered


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What an undisturbed run makes of the same sources."""

    fates: Mapping[str, str]  # name of each input -> written, quarantined, duplicate, filtered
    digest: str  # of the manifest
    objects: Mapping[str, str] = field(default_factory=dict)  # key -> BLAKE3 of shards, indexes, quarantine


def truth_of(storage: Storage) -> Truth:
    """Taken from an undisturbed run."""
    dataset = Dataset(storage, load(storage))
    fates = {row.source: "written" for _, row in dataset}
    fates |= {row["name"]: row["status"] for row in dataset.dropped()}
    return Truth(fates=fates, digest=dataset.manifest.digest, objects=_objects(dataset))


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


def violations(storage: Storage, truth: Truth, *, thorough: bool = False) -> list[str]:
    """Every invariant that does not hold, by its number; `thorough` asks `rayloom check` as well.

    I1 nothing lost, I2 nothing twice, I3 the same bytes, I4 nothing partial, I5 only what is bad is left out,
    I6 no unfinished upload. (I7, an end within a limit, is held by whoever runs the fault; I8, the order of
    training, follows from I3: the order is a function of the manifest digest.)
    """
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
    books = dataset.manifest.books
    if not books.closed or (books.inputs, books.written) != (len(truth.fates), len(written)):
        found.append(f"I1 the books do not close: {books}")
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
