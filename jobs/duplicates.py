"""What datasets have twice, in themselves and in each other."""

import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from jobs.cluster import cluster
from pipelines.parquet import to_parquet
from pipelines.shards.difference import open_snapshot

FOUND = 1


def run(places: Sequence[str], *, distance: int, output: Path | None = None, as_json: bool = False) -> int:
    """Print how many of each split are there already, and where; `output` gets a row for each.

    Exit code 1 when any is.
    """
    datasets = [open_snapshot(place) for place in places]
    for place, dataset in zip(places, datasets, strict=True):
        if distance and dataset.manifest.job.get("decode") is False:
            print(
                f"{place} has no fingerprints (decode: false): only same bytes are found there",
                file=sys.stderr,
            )
    with cluster():
        from pipelines.graphs.duplicates import REASONS, duplicates

        found = duplicates(datasets, distance)
    if output is not None:
        output.write_bytes(to_parquet(found))
    sides = (found[f"{of}{name}"].to_pylist() for of in ("", "of_") for name in ("dataset", "split"))
    counts: dict[tuple[int, str, int, str], Counter[str]] = {}
    for *pair, reason in zip(*sides, found["reason"].to_pylist(), strict=True):
        counts.setdefault(tuple(pair), Counter())[reason] += 1
    if as_json:
        rows = [
            {"dataset": places[a], "split": x, "of": places[b], "of_split": y, **counted}
            for (a, x, b, y), counted in sorted(counts.items())
        ]
        print(json.dumps({"duplicates": found.num_rows, "rows": rows}))
    else:
        sizes: Counter[tuple[int, str]] = Counter()
        for number, dataset in enumerate(datasets):
            for shard in dataset.manifest.shards:
                sizes[number, shard.split] += shard.samples
        for (a, x, b, y), counted in sorted(counts.items()):
            told = ", ".join(f"{counted[reason]:,} {reason}" for reason in REASONS if counted[reason])
            print(f"{places[a]}, {x}, {sizes[a, x]:,} samples: {told} in {places[b]}, {y}")
        print(f"{found.num_rows:,} of {sizes.total():,} samples are there already")
    return FOUND if found.num_rows else 0
