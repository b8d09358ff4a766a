"""Removing what no snapshot names: leftovers of runs that died, of races that were lost, of uploads never ended."""

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from pipelines.seal import unseal
from pipelines.shards.manifest import Manifest, copy_key, head_key, listing_key, load, numbers
from pipelines.shards.storage import Storage, read_verified, store_time

AGE_S: Final = 7 * 86_400.0  # longer than a run may pause and still be taken up again
_RUN = re.compile(r"(?:runs|quarantine)/([^/]+)/")


@dataclass(kw_only=True)
class Collected:
    """What was removed, or with `dry` would be."""

    objects: list[str] = field(default_factory=list)
    size: int = 0
    uploads: list[str] = field(default_factory=list)


def collect(storage: Storage, *, older_than_s: float = AGE_S, dry: bool = False) -> Collected:
    """Remove what no manifest names and nobody has written to for `older_than_s` by the store's own clock.

    A run with any younger object is alive, and keeps everything that its marks name. Marks go before the
    shards they name, so that a run taken up again builds what is gone. Corrupt: a manifest cannot be read,
    so nothing is known to be unnamed; repair first.
    """
    snapshots = [load(storage, number) for number in numbers(storage)]
    if not snapshots:
        raise FileNotFoundError(f"no dataset at {storage.url}: there is nothing that says what to keep")
    now = store_time(storage)
    named, runs = _named(snapshots)
    found = Collected()
    groups: dict[str, list[str]] = defaultdict(list)
    for folder in ("runs/", "quarantine/"):
        for key in storage.list(folder):
            if match := _RUN.match(key):
                groups[match[1]].append(key)
    dead = []
    for run, keys in groups.items():
        if run in runs:
            continue
        if _alive(storage, keys, now - older_than_s):
            named |= _marked(storage, keys)
        else:
            dead += keys
    loose = [
        key
        for folder in ("index/", "shards/", "manifest/")
        for key in storage.list(folder)
        if key not in named
    ]
    for key in [*sorted(dead, key=lambda key: "/done/" not in key), *loose]:
        moment = storage.modified(key)  # asked late: somebody may have taken it up meanwhile
        if moment is not None and moment <= now - older_than_s:
            found.objects.append(key)
            found.size += storage.size(key) or 0
            if not dry:
                storage.delete(key)
    for upload, begun in list(storage.uploads()):
        if begun <= now - older_than_s:
            found.uploads.append(upload)
            if not dry:
                storage.abort(upload)
    return found


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


def _alive(storage: Storage, keys: list[str], since: float) -> bool:
    newest_first = sorted(keys, key=lambda key: "/started/" not in key)
    moments = (storage.modified(key) for key in newest_first)
    return any(moment is not None and moment > since for moment in moments)


def _marked(storage: Storage, keys: list[str]) -> set[str]:
    """What the done-markers of a run name."""
    return {name for key in keys if "/done/" in key for name in _shard_of(storage, key)}


def _shard_of(storage: Storage, key: str) -> Iterator[str]:
    try:
        shard = read_verified(storage, key, unseal)["shard"]
    except FileNotFoundError:
        return
    if shard:
        yield f"shards/{shard['digest']}.tar"
        yield f"index/{shard['digest']}.parquet"
