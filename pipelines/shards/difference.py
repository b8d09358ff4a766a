"""What one snapshot has and another has not, sample by sample, from their indexes alone."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pipelines.shards.dataset import Dataset

COMPARED = ("files", "meta", "label", "caption", "split")


@dataclass(frozen=True)
class Difference:
    """One sample: `what` is added, removed or changed; `fields` says in what it changed."""

    what: str
    key: str
    fields: tuple[str, ...] = ()


def open_snapshot(place: str) -> Dataset:
    """`DATASET`, or `DATASET@3` for its snapshot 3."""
    url, at, number = place.rpartition("@")
    return Dataset.open(url, int(number)) if at and number.isdigit() else Dataset.open(place)


def difference(a: Dataset, b: Dataset) -> Iterator[Difference]:
    """How to come from `a` to `b`, in key order within what was removed and changed, then what was added.

    Shards that both have are not opened. Files are compared by size and crc32c, wherever they lie.
    """
    common = {shard.digest for shard in a.manifest.shards} & {shard.digest for shard in b.manifest.shards}
    before, after = _facts(a, common), _facts(b, common)
    for key in sorted(before):
        if key not in after:
            yield Difference("removed", key)
        elif changed := tuple(n for n in COMPARED if before[key][n] != after[key][n]):
            yield Difference("changed", key, changed)
    for key in sorted(after.keys() - before.keys()):
        yield Difference("added", key)


def _facts(dataset: Dataset, common: set[str]) -> dict[str, dict[str, Any]]:
    columns = ["key", "files", "meta", "label", "caption"]
    facts = {}
    for shard in dataset.manifest.shards:
        if shard.digest in common:
            continue
        for row in dataset.index(shard, columns).to_pylist():
            files = sorted((file["name"], file["size"], file["crc32c"]) for file in row["files"])
            facts[row["key"]] = {**row, "files": files, "split": shard.split}
    return facts
