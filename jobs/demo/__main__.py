"""Ingest, train and predict on five kinds of data; ends with a table and report.html."""

import argparse
import shutil
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from jobs import infer, ingest, train
from jobs.cluster import cluster
from jobs.demo.results import Result, measure
from jobs.demo.studies import Study, studies


def main() -> int:
    """Exit code 0 when every study beat its chance level on held-out data."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("demo"))
    parser.add_argument(
        "--data", type=Path, help="a folder with images, video, points, hyperspectral, lighting"
    )
    options = parser.parse_args()
    if options.data and not options.data.is_dir():
        print(f"no folder {options.data}; give one with {', '.join(FOLDERS)} in it", file=sys.stderr)
        return 2
    if (options.output / "source").exists():
        shutil.rmtree(options.output)  # a demo of an earlier time, and nothing else
    options.output.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with Memory() as memory, cluster():
        results = [run(study) for study in studies(options.output.absolute(), options.data)]
    facts = {"seconds": time.monotonic() - began, "peak_gib": memory.peak / 2**30}

    from jobs.demo.report import write_report

    path = write_report(options.output / "report.html", results, facts)
    print(f"\n{table(results)}\n\n{facts['seconds']:.0f} s, at most {facts['peak_gib']:.1f} GiB; see {path}")
    behind = [result.study.title for result in results if not result.learned]
    if behind:
        print(f"not better than chance on held-out data: {', '.join(behind)}", file=sys.stderr)
    return 1 if behind else 0


FOLDERS = ("images", "video", "points", "hyperspectral", "lighting")


def run(study: Study) -> Result:
    """One study, with the seconds that each of its parts took."""
    seconds: dict[str, float] = {}
    began = time.monotonic()
    outcomes = [ingest.ingest_dataset(job) for job in study.ingests]
    seconds["ingest"] = time.monotonic() - began
    began = time.monotonic()
    summary = train.train_model(study.train)
    seconds["train"] = time.monotonic() - began
    began = time.monotonic()
    predictions, _ = infer.infer_dataset(study.infer)
    again = infer.infer_dataset(study.infer)[1]
    assert again == 0, "a second inference of the same data must find nothing to do"
    seconds["infer"] = time.monotonic() - began
    result = measure(study, outcomes, summary, predictions, seconds)
    print(f"{study.title}: {result.sentence()}", flush=True)
    return result


def table(results: list[Result]) -> str:
    """What the terminal shows at the end."""
    head = ("data", "files", "samples", "kept out", "loss", "held-out metric", "model", "chance", "seconds")
    rows = [head, *(result.row() for result in results)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


@dataclass
class Memory:
    """Peak resident memory of this process and all its children while the block runs, in bytes.

    Pages that processes share are counted once (PSS) where the system tells, else in each.
    """

    every_s: float = 1.0
    peak: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Memory":
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        me = psutil.Process()
        while not self._stop.wait(self.every_s):
            total = 0
            for process in [me, *me.children(recursive=True)]:
                try:
                    total += getattr(process.memory_full_info(), "pss", 0) or process.memory_info().rss
                except psutil.Error:  # it ended meanwhile
                    continue
            self.peak = max(self.peak, total)


if __name__ == "__main__":
    sys.exit(main())
