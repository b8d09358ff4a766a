"""What one snapshot has and another has not, sample by sample, from their indexes alone."""

import tempfile
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.shards.ahead import ahead
from pipelines.shards.dataset import Dataset
from pipelines.shards.manifest import Shard
from pipelines.shards.spill import Spill, num_buckets

COMPARED = ("files", "meta", "label", "caption", "split")
FACTS = pa.schema([("key", pa.string()), *((name, pa.string()) for name in COMPARED), ("side", pa.int8())])
DRAWN = 64  # keys for each bucket, by which its range of keys is chosen
Part = tuple[int, Dataset, Shard]  # which side, and what of it


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

    Shards that both have in the same split are not opened. Files are compared by size and crc32c, wherever
    they lie. What is compared lies in a temporary folder, a range of keys in memory at a time.
    """
    common = set(map(_named, a.manifest.shards)) & set(map(_named, b.manifest.shards))
    every = [(side, of, shard) for side, of in enumerate((a, b)) for shard in of.manifest.shards]
    parts = [part for part in every if _named(part[2]) not in common]
    with tempfile.TemporaryDirectory(prefix="rayloom-diff-") as folder:
        facts = _facts(parts, Path(folder) / "facts")
        for bucket in facts:
            before, after = _by_key(bucket, 0), _by_key(bucket, 1)
            for key in sorted(before):
                if key not in after:
                    yield Difference("removed", key)
                elif changed := tuple(n for n in COMPARED if before[key][n] != after[key][n]):
                    yield Difference("changed", key, changed)
        for bucket in facts.each(["key", "side"]):
            for key in sorted(_by_key(bucket, 1).keys() - _by_key(bucket, 0).keys()):
                yield Difference("added", key)


def _named(shard: Shard) -> tuple[str, str, str]:
    return shard.digest, shard.split, shard.index


def _facts(parts: list[Part], folder: Path) -> Spill:
    """What is compared of the samples of both sides, as FACTS; buckets are in the order of the keys."""
    rows = sum(shard.samples for _, _, shard in parts)
    facts = Spill(folder, FACTS, num_buckets(rows))
    firsts = _firsts(parts, rows, facts.buckets) if facts.buckets > 1 else []
    for table in ahead(_compared, parts):
        places = [bisect_right(firsts, key) for key in table["key"].to_pylist()]
        facts.add(table, np.array(places, np.int64))
    return facts


def _firsts(parts: list[Part], rows: int, buckets: int) -> list[str]:
    """The first key of each bucket but the first, by one key of many."""
    found: list[str] = []
    step, seen = max(1, rows // (buckets * DRAWN)), 0
    for table in ahead(lambda part: part[1].index(part[2], ["key"]), parts):
        found += table["key"][-seen % step :: step].to_pylist()
        seen += table.num_rows
    found.sort()
    return [found[i * len(found) // buckets] for i in range(1, buckets)]


def _compared(part: Part) -> pa.Table:
    side, dataset, shard = part
    index = dataset.index(shard, ["key", *COMPARED[:-1]])
    files = [
        str(sorted((file["name"], file["size"], file["crc32c"]) for file in of))
        for of in index["files"].to_pylist()
    ]
    given: dict[str, Any] = {name: index[name] for name in index.schema.names}
    given |= {"files": files, "split": [shard.split] * len(files), "side": [side] * len(files)}
    return pa.table([given[name] for name in FACTS.names], schema=FACTS)


def _by_key(bucket: pa.Table, side: int) -> dict[str, dict[str, Any]]:
    return {row["key"]: row for row in bucket.filter(pc.equal(bucket["side"], side)).to_pylist()}
