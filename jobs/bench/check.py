"""How fast a core checks a dataset, beside BLAKE3 alone. `python -m jobs.bench.check 20000`.

An ingest makes shards of so many JPEGs of 45 kB, in memory where there is /dev/shm. Then what `rayloom check`
does and BLAKE3 over the same shards' bytes, which this process holds, take turns. CPU is that of all threads;
medians of the rounds. The start of the command, half a second, is not among it.
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import blake3

from jobs.bench.ingest import ours, write_files
from jobs.cluster import cluster
from pipelines.shards.check import check

BAR = 2.0  # GB a CPU second


def measure(count: int, rounds: int, folder: Path) -> tuple[int, list[tuple[float, float]]]:
    """Bytes of the shards, and for each round CPU seconds of the check and of BLAKE3."""
    write_files(folder / "source", "jpeg", count)
    with cluster(2):
        ours(folder / "source", folder / "data", "jpeg", decode=False)
    shutil.rmtree(folder / "source")  # all may lie in memory
    shards = [path.read_bytes() for path in sorted(folder.glob("data/shards/*.tar"))]

    def checked() -> None:
        if (report := check(str(folder / "data")))["samples"] != count or not report["ok"]:
            raise AssertionError(f"want {count} good samples, got {report}")

    def hashed() -> None:
        for shard in shards:
            blake3.blake3(shard).digest()

    took = [(_cpu(checked), _cpu(hashed)) for _ in range(rounds + 1)]
    return sum(map(len, shards)), took[1:]  # the first one imports


def _cpu(work: Callable[[], None]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def main() -> None:
    """Measure, and say whether the bar is met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("count", type=int, nargs="?", default=20_000)
    parser.add_argument("--rounds", type=int, default=9)
    given = parser.parse_args()
    shared = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(prefix="rayloom-bench-", dir=shared) as folder:
        size, took = measure(given.count, given.rounds, Path(folder))
    ours_, bare = ([size / 1e9 / pair[at] for pair in took] for at in (0, 1))
    ratio = median(a / b for a, b in zip(ours_, bare, strict=True))
    print(f"{size / 1e9:.2f} GB of shards, {given.count:,} samples; medians of {given.rounds} rounds")
    for name, rates in (("check", ours_), ("BLAKE3 alone", bare)):
        print(f"  {name:<14}{median(rates):6.2f} GB a CPU second ({min(rates):.2f} to {max(rates):.2f})")
    print(f"  check / BLAKE3 {ratio:5.2f}; bar {BAR:g} GB/s: {'met' if median(ours_) >= BAR else 'missed'}")


if __name__ == "__main__":
    main()
