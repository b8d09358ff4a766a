"""`make bench` measures everything that this folder can measure."""

import re
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[3]
ELSEWHERE: Final = {
    "at_hand": "memory for ingest",
    "learn": "trains every preset for minutes",
    "linear": "part of learn",
    "loader_peers": "rows of loader",
    "mixers": "rayloom zoo bench",
}


def test_every_bench_is_run() -> None:
    target = (ROOT / "Makefile").read_text().partition("\nbench:")[2].partition("\n\n")[0]
    run = set(re.findall(r"-m jobs\.bench\.(\w+)", target))
    there = {path.stem for path in (ROOT / "jobs/bench").glob("[!_]*.py")}
    assert run == there - set(ELSEWHERE)
    assert "ingest memory 10000 100000" in target
    assert set(ELSEWHERE) < there
