"""What `rayloom duplicates` takes for two simulated datasets. `python -m jobs.bench.duplicates 1000000`.

The second has one sample in twenty of the first with the same bytes, and one in twenty with a fingerprint two
bits further; every one of them has to be found. Among millions a few are near by chance, and are found too.
"""

import argparse
import tempfile
import time
from pathlib import Path

import blake3
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jobs.bench.ingest import peaks_mib
from jobs.heap import one_heap
from pipelines.parquet import to_parquet
from pipelines.shards.dataset import Dataset
from pipelines.shards.index import SCHEMA
from pipelines.shards.manifest import Books, Manifest, Shard, commit
from pipelines.shards.storage import open_storage
from pipelines.stages.dedup import mixed

PER_SHARD, EVERY, BITS = 10_000, 20, 0b1001
Numbers = NDArray[np.uint64]


def write(folder: Path, numbers: Numbers, flips: Numbers) -> Dataset:
    """Indexes of samples whose content and fingerprint follow from their numbers; `flips` of its bits."""
    storage, shards = open_storage(str(folder)), []
    for start in range(0, len(numbers), PER_SHARD):
        part, flip = (values[start : start + PER_SHARD] for values in (numbers, flips))
        content = to_parquet(_index(part, flip))
        digest = blake3.blake3(content).hexdigest()
        shard = Shard(digest=digest, samples=len(part), size=1, split="train", index=digest)
        storage.put(shard.index_key, content)
        shards.append(shard)
    books = Books(inputs=len(numbers), written=len(numbers))
    manifest = Manifest(
        number=0, parent=None, modality="image", settings="", plans=[], classes=[], books=books, shards=shards
    )
    commit(storage, manifest)
    return Dataset.open(str(folder))


def _index(numbers: Numbers, flips: Numbers) -> pa.Table:
    count = len(numbers)
    own = mixed(numbers * np.uint64(2) + (flips != 0))  # changed files have other bytes
    digests = np.frombuffer(np.stack([own] * 4, axis=1).tobytes().hex().encode(), "S64").astype(str)
    keys = pa.array([f"photos/{number:012}" for number in numbers.tolist()])
    file = pa.StructArray.from_arrays(
        [
            ["jpg"] * count,
            np.zeros(count, int),
            40_000 + (own >> np.uint64(50)).astype(int),
            own.astype(np.uint32),
        ],
        fields=list(SCHEMA.field("files").type.value_type),
    )
    columns = {
        "key": keys, "files": pa.ListArray.from_arrays(np.arange(count + 1, dtype=np.int32), file),
        "content": pa.array(digests), "fingerprint": pa.array(mixed(numbers + np.uint64(2**40)) ^ flips),
    }  # fmt: skip
    return pa.table([columns.get(f.name, pa.nulls(count, f.type)) for f in SCHEMA], schema=SCHEMA)


def main() -> None:
    """Measure for the number of samples of each dataset."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int, nargs="?", default=100_000)
    parser.add_argument("--distance", type=int, default=6)
    parser.add_argument("--cores", type=int, default=2)
    given = parser.parse_args()
    one_heap()
    numbers = np.arange(given.count, dtype=np.uint64)
    same, near = numbers % EVERY == 3, numbers % EVERY == 7
    others = np.where(same | near, numbers, numbers + np.uint64(2**33))
    with tempfile.TemporaryDirectory(prefix="rayloom-bench-") as folder:
        first = write(Path(folder, "first"), numbers, np.zeros_like(numbers))
        second = write(Path(folder, "second"), others, np.where(near, BITS, 0).astype(np.uint64))
        from jobs.cluster import cluster

        with cluster(given.cores):
            from pipelines.graphs.duplicates import duplicates

            start = time.perf_counter()
            found = duplicates([first, second], given.distance)
            took, peaks = time.perf_counter() - start, peaks_mib()
    reasons = found["reason"].to_pylist()
    told = dict.fromkeys(sorted(set(reasons)), 0)
    for reason in reasons:
        told[reason] += 1
    wanted = {"same-bytes": int(same.sum())} | ({"near-duplicate": int(near.sum())} if given.distance else {})
    print(
        f"2 x {given.count:,} samples, distance {given.distance}: {took:.1f} s, "
        f"driver {peaks['driver']:,.0f} MiB, worker {peaks['workers']:,.0f} MiB; "
        f"found {told}, planted {wanted}"
    )


if __name__ == "__main__":
    main()
