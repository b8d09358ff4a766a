"""A plan of N simulated inputs: time a million, peak memory. `python -m jobs.bench.plan 1000000 10000000`.

Each number runs in a process of its own. The survey is written first, as an ingest leaves it on storage; what
is timed is the plan made of it, read through the same code, and then its way onto storage.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jobs.heap import ONE_HEAP, one_heap
from pipelines.parquet import from_parquet, to_parquet
from pipelines.shards.ahead import ahead
from pipelines.shards.exchange import Exchanges, OnDisk
from pipelines.shards.marks import MARKED, MARKS
from pipelines.shards.plan import READERS, Survey, make_plan
from pipelines.shards.planned import write_plan
from pipelines.shards.storage import open_storage
from pipelines.stages.dedup import mixed

CHUNK = 4096
SETTINGS: dict[str, Any] = {
    "seed": 0, "dedup": "exact", "dedup_distance": 6, "split": {"val": 0.05, "test": 0.05, "by": "scene"},
    "shards": {"max_bytes": 256 * 2**20, "max_samples": 10_000, "shuffle": True},
}  # fmt: skip


def chunk(number: int, start: int, count: int) -> pa.Table:
    """Rows as a survey of JPEGs has them: 5 % duplicates, log-normal sizes, scenes of four, 1000 classes."""
    rows = np.arange(start, start + count, dtype=np.uint64)
    of = np.where(rows % 20 == 19, rows - rows % 20, rows)  # every twentieth is a copy
    rng = np.random.default_rng(number)
    sizes = rng.lognormal(10.5, 0.8, count).astype(np.int64)
    numbers = pc.utf8_lpad(pa.array(rows).cast(pa.string()), 10, "0")
    names = _join("photos/", pc.utf8_slice_codeunits(numbers, 0, 6), "/", numbers, ".jpg")
    content = _hex(of)
    size_text = pa.array(sizes).cast(pa.string())
    entry = _join(
        '{"content":["/data/', names, '",', size_text, ',"1731000000000000000"],"group":"', names,
        '","name":"', names, '"}',
    )  # fmt: skip
    meta = _join('{"channels":3,"format":"jpeg","height":', size_text, ',"orientation":1,"width":640}')
    quality = pa.MapArray.from_arrays(
        np.arange(0, 6 * count + 1, 6, dtype=np.int32),
        pa.array(["aspect", "blur", "contrast", "entropy", "exposure", "saturation"] * count),
        pa.array(rng.random(6 * count).round(4)),
    )
    columns = {
        "status": pa.array(["ok"] * count), "name": names, "entry": entry, "suffix": pa.array([""] * count),
        "num_bytes": pa.array(sizes), "content": content, "meta": meta,
        "label": _join("class-", pa.array(rows % np.uint64(1000)).cast(pa.string())),
        "group": names, "quality": quality, "fingerprint": pa.array(mixed(of)),
        "key": pc.utf8_slice_codeunits(names, 0, -4), "marks": _marks(rows, of),
    }  # fmt: skip
    return pa.table([columns.get(f.name, pa.nulls(count, f.type)) for f in MARKED], schema=MARKED)


def _join(*parts: Any) -> pa.Array:
    return pc.binary_join_element_wise(*parts, "")


def _hex(numbers: NDArray[np.uint64]) -> pa.Array:
    """64 hex digits for each number."""
    whole = np.stack([mixed(numbers * np.uint64(4) + np.uint64(i)) for i in range(4)], axis=1)
    digits = np.frombuffer(whole.tobytes().hex().encode(), "S64")
    return pa.array(digits.astype(str), pa.string())


def _marks(rows: NDArray[np.uint64], of: NDArray[np.uint64]) -> pa.Array:
    marks = np.zeros(len(rows), MARKS)
    scene = rows // np.uint64(4)
    for name, base in (("place", rows), ("key", rows + np.uint64(2**60)), ("draw", scene + np.uint64(2**61))):
        marks[name] = mixed(base)
    for name, base in (("name", rows), ("same", of)):
        marks[name][:, 0] = mixed(base + np.uint64(2**62))
        marks[name][:, 1] = mixed(base + np.uint64(2**63))
    return pa.Array.from_buffers(pa.binary(MARKS.itemsize), len(rows), [None, pa.py_buffer(marks.tobytes())])


def write_survey(folder: Path, rows: int) -> list[Path]:
    """Chunks as Parquet files, written by a process a core: they are not what is measured."""
    folder.mkdir()
    parts = range(-(-rows // CHUNK))
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as processes:
        return list(processes.map(partial(_write_part, folder, rows), parts, chunksize=64))


def _write_part(folder: Path, rows: int, number: int) -> Path:
    path, start = folder / f"{number:06}.parquet", number * CHUNK
    path.write_bytes(to_parquet(chunk(number, start, min(CHUNK, rows - start))))
    return path


def measure(rows: int, folder: Path, dedup: str, exchange: Exchanges) -> dict[str, Any]:
    """One plan, in this process."""
    paths = write_survey(folder / "survey", rows)
    survey_bytes = sum(path.stat().st_size for path in paths)
    before = _peak_bytes()

    def read(columns: list[str]) -> Iterator[pa.Table]:
        last = columns == MARKED.names  # the pass that carries all: what it has read need not lie here longer

        def part(path: Path) -> pa.Table:
            content = path.read_bytes()
            if last:
                path.unlink()
            return from_parquet(content, columns)

        return ahead(part, paths, READERS)

    start, cpu = time.perf_counter(), time.process_time()
    plan = make_plan(Survey(rows, read), settings={**SETTINGS, "dedup": dedup}, exchange=exchange)
    made, cpu = time.perf_counter(), time.process_time() - cpu
    write_plan(open_storage(str(folder / "dataset")), plan, "image")
    stored = time.perf_counter()
    sizes = [unit["num_bytes"] + 2048 * unit["samples"] for unit in plan.dealt if unit["split"] == "train"]
    return {
        "rows": rows, "dedup": dedup, "plan_s": made - start, "cpu_s_per_million": cpu / rows * 1e6,
        "store_s": stored - made, "peak_rss_mib": _peak_bytes() / 2**20, "rss_before_mib": before / 2**20,
        "survey_mib": survey_bytes / 2**20, "units": plan.units, "samples": plan.num_samples,
        "dropped": plan.num_dropped, "fullest_of_emptiest": max(sizes) / min(sizes), "digest": plan.digest,
    }  # fmt: skip


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    """Measure the numbers of inputs that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", type=int, nargs="*", default=[100_000, 1_000_000])
    parser.add_argument("--dedup", default="exact", choices=["none", "exact", "near"])
    parser.add_argument("--shuffle", action="store_true", help="Duplicates by Ray Data, as of large ingests.")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    for rows in given.rows:
        if given.inside:
            one_heap()
            with tempfile.TemporaryDirectory(prefix="rayloom-bench-") as folder, ExitStack() as stack:
                exchange: Exchanges = OnDisk
                if given.shuffle:
                    from jobs.cluster import cluster
                    from pipelines.graphs.exchange import Shuffle

                    stack.enter_context(cluster(os.cpu_count()))
                    exchange = Shuffle
                print(json.dumps(measure(rows, Path(folder), given.dedup, exchange)))
            continue
        command = [sys.executable, "-m", "jobs.bench.plan", str(rows), "--dedup", given.dedup, "--inside"]
        command += ["--shuffle"] * given.shuffle
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | ONE_HEAP)
        found = json.loads(done.stdout)
        how = found["dedup"] + " by Ray Data" * given.shuffle
        print(
            f"{found['rows']:>11,} inputs, dedup {how:<5}  {found['plan_s']:8.1f} s  "
            f"{found['cpu_s_per_million']:6.2f} CPU s a million  peak {found['peak_rss_mib']:7,.0f} MiB  "
            f"({found['rss_before_mib']:,.0f} before)  {found['units']:,} shards, "
            f"fullest/emptiest {found['fullest_of_emptiest']:.2f}, stored in {found['store_s']:.1f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
