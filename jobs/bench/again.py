"""How long a finished job takes to find that there is nothing to do. `python -m jobs.bench.again 10000 10`.

Builds a dataset of so many shards of so many samples, without Ray and without decoding, then runs the same
job again, and once more with one file added. Counted beside the time: operations on the dataset's storage.
"""

import argparse
import io
import json
import resource
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from jobs.config.schema import IngestJob
from jobs.ingest import ingest_dataset
from pipelines.graphs import ingest as graph
from pipelines.shards.storage import LocalStorage


def write_pictures(folder: Path, count: int, *, flat: bool = False) -> None:
    """Small different JPEGs, 1000 a folder; or all in one, a caption beside each."""
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 255, (16, 16, 3), np.uint8)
    Image.fromarray(pixels).save(out := io.BytesIO(), "JPEG")
    head, tail = out.getvalue()[:2], out.getvalue()[2:]
    for i in range(count):
        path = folder / ("" if flat else f"{i // 1000:05}") / f"{i:08}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        comment = f"{i:08}".encode()  # a comment segment makes every file another
        path.write_bytes(head + b"\xff\xfe\x00\x0a" + comment + tail)
        if flat:
            path.with_suffix(".txt").write_bytes(comment)


def _in_this_process(task: Any, units: int, phase: str, report: Any) -> Any:
    for i in range(units):
        yield task({"id": i})


class _Counted(Counter[str]):
    """Operations of every LocalStorage while it is entered."""

    def __enter__(self) -> "_Counted":
        self._were = {name: getattr(LocalStorage, name) for name in ("get", "list", "size", "create")}
        for name, was in self._were.items():
            setattr(LocalStorage, name, self._counting(name, was))
        return self

    def _counting(self, name: str, was: Any) -> Any:
        def counting(storage: Any, *values: Any, **named: Any) -> Any:
            self[name] += 1
            return was(storage, *values, **named)

        return counting

    def __exit__(self, *_: object) -> None:
        for name, was in self._were.items():
            setattr(LocalStorage, name, was)


def measure(shards: int, samples: int, folder: Path) -> dict[str, Any]:
    """Build, run again, add one file."""
    write_pictures(source := folder / "source", shards * samples)
    job = IngestJob.model_validate(
        {
            "kind": "ingest", "modality": "image", "source": {"uri": str(source), "labels": "none"},
            "output": str(folder / "data"), "decode": False, "shards": {"max_samples": samples},
        }
    )  # fmt: skip
    graph._run = _in_this_process
    found: dict[str, Any] = {"shards": shards, "samples": shards * samples}
    start = time.perf_counter()
    manifest = ingest_dataset(job).manifest
    found |= {"built_s": time.perf_counter() - start, "made": len(manifest.shards)}
    for what in ("again", "one_more"):
        if what == "one_more":
            write_pictures(folder / "more", 1)
            (folder / "more/00000/00000000.jpg").rename(source / "new.jpg")
            with (source / "new.jpg").open("ab") as file:
                file.write(b"another")
        with _Counted() as operations:
            start, cpu = time.perf_counter(), time.process_time()
            outcome = ingest_dataset(job)
            found[f"{what}_s"] = time.perf_counter() - start
            found[f"{what}_cpu_s"] = time.process_time() - cpu
        found[f"{what}_operations"] = dict(operations)
        if (outcome.books.inputs, outcome.added) != ((0, False) if what == "again" else (1, True)):
            raise AssertionError(f"{what}: {outcome.books}")
    found["peak_rss_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return found


def main() -> None:
    """Measure the size that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shards", type=int, nargs="?", default=10_000)
    parser.add_argument("samples", type=int, nargs="?", default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rayloom-bench-") as folder:
        print(json.dumps(measure(given.shards, given.samples, Path(folder)), indent=1))


if __name__ == "__main__":
    main()
