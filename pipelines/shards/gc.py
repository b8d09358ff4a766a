"""Removing what no snapshot names: leftovers of runs that died, of lost races, of uploads never ended."""

import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from pipelines.seal import Corrupt, unseal
from pipelines.shards.manifest import Manifest, copy_key, head_key, listing_key, load, numbers
from pipelines.shards.storage import Storage, read_verified
from pipelines.shards.turns import attempt_key, collecting

AGE_S: Final = 7 * 86_400.0  # longer than a run may pause and still be taken up again
_FOLDERS: Final = ("index/", "shards/", "manifest/", "runs/", "quarantine/")  # a bucket may hold other things
_RUN = re.compile(r"(?:runs|quarantine)/([^/]+)/")
# What builders leave there; whatever else somebody keeps in these folders is not ours to remove.
_OURS = re.compile(
    r"shards/[0-9a-f]{64}\.tar|index/[0-9a-f]{64}\.parquet|manifest/\d+(-[0-9a-f]+)?\.(json|parquet)"
    r"|runs/(clock|started|trial)/.+|quarantine/[^/]+/(survey-\d+|\d+(-[0-9a-f]{16})?)\.parquet"
    r"|runs/[^/]+/(attempt|(plan|planned|head)\.json|done/(\d+|[0-9a-f]{64})\.json|units\.parquet"
    r"|(units|clusters|ids|listing|survey)/\d+\.parquet)"
)


@dataclass(kw_only=True)
class Collected:
    """What was removed, or with `dry` would be."""

    objects: list[str] = field(default_factory=list)
    size: int = 0
    uploads: list[str] = field(default_factory=list)
    finished: bool = True  # or there was more than one turn has time for


def collect(
    storage: Storage, *, older_than_s: float = AGE_S, dry: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> Collected:  # fmt: skip
    """Remove what no manifest names and nobody has written to for `older_than_s` by the store's own clock.

    A run with any younger object is alive, and keeps everything that its marks name. Conflict: a builder is
    at work, or was when it died less than `older_than_s` ago. Corrupt: a manifest cannot be read, so nothing
    is known to be unnamed; repair first.
    """
    with collecting(storage, builder_age_s=older_than_s, clock=clock) as (now, time_left):
        snapshots = [load(storage, number) for number in numbers(storage)]
        if not snapshots:
            raise FileNotFoundError(f"no dataset at {storage.url}: there is nothing that says what to keep")
        found = Collected()
        for key in _unnamed(storage, snapshots, now - older_than_s):
            moment = storage.modified(key)
            if moment is None or moment > now - older_than_s:
                continue
            if not time_left():
                found.finished = False
                break
            found.objects.append(key)
            found.size += storage.size(key) or 0
            if not dry:
                storage.delete(key)
        for upload, begun in list(storage.uploads()):
            if begun <= now - older_than_s and ("/" not in upload or upload.startswith(_FOLDERS)):
                found.uploads.append(upload)
                if not dry:
                    storage.abort(upload)
    return found


def _unnamed(storage: Storage, snapshots: list[Manifest], since: float) -> list[str]:
    """What no snapshot and no living run needs; marks before the shards they name."""
    named, runs = _named(snapshots)
    groups: dict[str, list[str]] = defaultdict(list)
    for folder in _FOLDERS[3:]:
        for key in storage.list(folder):
            if match := _RUN.match(key):
                groups[match[1]].append(key)
    dead = []
    for run, keys in groups.items():
        if run in runs:
            continue
        if keys == [attempt_key(run)]:  # what may be taken up again goes by it
            keys = keys + [key for name in groups if name.startswith(f"{run}-") for key in groups[name]]
        if any((storage.modified(key) or since) > since for key in keys):
            named |= _marked(storage, keys)
        else:
            dead += [key for key in groups[run] if _OURS.fullmatch(key)]
    loose = [
        key
        for folder in _FOLDERS[:3]
        for key in storage.list(folder)
        if key not in named and _OURS.fullmatch(key)
    ]
    return [*sorted(dead, key=lambda key: "/done/" not in key), *loose]


def _named(snapshots: list[Manifest]) -> tuple[set[str], set[str]]:
    """Objects and runs that a snapshot needs."""
    named: set[str] = set()
    runs: set[str] = set()
    for manifest in snapshots:
        named |= {head_key(manifest.number), listing_key(manifest)}
        named |= {key for shard in manifest.shards for key in (shard.key, shard.index_key)}
        named |= {copy_key(manifest)} if manifest.plans else set()
        runs |= {part for run in manifest.plans for part in run.split("/")}
    return named, runs


def _marked(storage: Storage, keys: list[str]) -> set[str]:
    """What the done-markers of a run name."""
    return {name for key in keys if "/done/" in key for name in _shard_of(storage, key)}


def _shard_of(storage: Storage, key: str) -> Iterator[str]:
    try:
        shard = read_verified(storage, key, unseal)["shard"]
    except (FileNotFoundError, Corrupt):  # a mark that cannot be read marks nothing: its unit is built again
        return
    if shard:
        yield f"shards/{shard['digest']}.tar"
        yield f"index/{shard['digest']}.parquet"
