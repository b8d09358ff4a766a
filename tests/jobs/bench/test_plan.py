"""The memory of a plan, each in a process of its own: the most that Arrow ever held is the process's."""

import subprocess
import sys

import pytest

PROGRAM = """
import json, sys
from jobs.heap import one_heap
one_heap()
import pyarrow as pa
from jobs.bench.plan import CHUNK, SETTINGS, chunk
from pipelines.parquet import from_parquet, to_parquet
from pipelines.shards.plan import Survey, make_plan
rows, shuffle, dedup = json.loads(sys.argv[1])
parts = [to_parquet(chunk(i, i * CHUNK, min(CHUNK, rows - i * CHUNK))) for i in range(-(-rows // CHUNK))]
survey = Survey(rows, lambda columns: (from_parquet(part, columns) for part in parts))
shards = {**SETTINGS["shards"], "max_samples": 250, "shuffle": shuffle}
plan = make_plan(survey, settings={**SETTINGS, "shards": shards, "dedup": dedup})
assert plan.num_samples + plan.num_dropped == rows
print(pa.default_memory_pool().max_memory())
"""


def peak_bytes(rows: int, *, shuffle: str, dedup: str) -> int:
    command = [sys.executable, "-c", PROGRAM, f'[{rows}, {shuffle}, "{dedup}"]']
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.parametrize(("shuffle", "dedup"), [("true", "near"), ("false", "exact")])
def test_memory_of_a_plan_hardly_grows_with_its_inputs(shuffle: str, dedup: str) -> None:
    """Four times the inputs: what is held of them all would be four times as much."""
    few, many = (peak_bytes(rows, shuffle=shuffle, dedup=dedup) for rows in (50_000, 200_000))
    assert many < 2 * few, f"{few / 2**20:.0f} MiB of 50,000 inputs, {many / 2**20:.0f} of 200,000"
