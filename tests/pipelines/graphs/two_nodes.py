"""Build one dataset in many ways on a Ray cluster of two nodes, and write the digest of each to found.json.

A program of its own, started by test_same_bytes.py: a cluster of two nodes does not go with the tests' own.
"""

import csv
import json
import os
import random
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from jobs.cluster import ENVIRONMENT, ROOT, patiently
from jobs.config.schema import IngestJob
from jobs.ingest import SETTINGS
from pipelines.graphs import ingest as graph
from pipelines.graphs import tasks
from pipelines.shards.dataset import Dataset

PICTURES, UNITS = 60, 12
Report = Callable[[str, int, int], None]


class Stop(BaseException):
    """What an impatient user does."""


def write_pictures(folder: Path) -> None:
    """Different pictures, some twice, one that is none."""
    from PIL import Image

    folder.mkdir(parents=True)
    for i in range(PICTURES):
        pixels = np.random.default_rng(i - i % 15 if i % 15 == 14 else i).integers(
            0, 255, (24, 32, 3), np.uint8
        )
        Image.fromarray(pixels).save(folder / f"{i:03}.jpg", quality=80)
    (folder / "none.jpg").write_bytes(b"\xff\xd8\xff\xe0 not a picture")


def write_table(folder: Path, path: Path, seed: int | None) -> str:
    """A table of the pictures, in order or shuffled."""
    names = sorted(p.name for p in folder.iterdir())
    if seed is not None:
        random.Random(seed).shuffle(names)
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["uri", "label"])
        rows.writerows(
            [f"{folder.name}/{name}", f"class {int(name[:3]) % 3}"] for name in names if name[0] != "n"
        )
        rows.writerow([f"{folder.name}/none.jpg", "class 0"])
    return str(path)


PLAIN = {"dedup": "none", "split": {"val": 0.2}}  # nothing is opened before it is packed


def build(table: str, output: str, report: Report = lambda *_: None, **changes: Any) -> dict[str, Any]:
    """One ingest; what came of it."""
    job = IngestJob.model_validate(
        {
            "kind": "ingest", "modality": "image", "source": {"uri": table}, "output": output,
            "shards": {"max_samples": PICTURES // UNITS}, "dedup": "near",
            "split": {"val": 0.2, "by": "cluster", "stratify": True}, **changes,
        }
    ).resolved()  # fmt: skip
    source = SimpleNamespace(**job["source"], seed=0)
    settings = {name: job[name] for name in SETTINGS}
    graph.ingest(source, output, modality="image", settings=settings, job=job, report=report)
    dataset = Dataset.open(output)
    checked, aside = dataset.check(), sorted(map(_told, dataset.dropped()))  # what differs is seen at once
    return {"digest": dataset.manifest.digest, "ok": checked["ok"], "books": checked["books"], "aside": aside}


def _told(row: dict[str, Any]) -> list[str]:
    return [str(row[name]) for name in ("name", "status", "reason", "detail")]


def stop_at(phase: str, units: int) -> Report:
    """Raises once so many units of a phase are done."""

    def report(now: str, done: int, _: int) -> None:
        if (now, done) == (phase, units):
            raise Stop

    return report


def main(work: Path, bucket: str) -> None:
    import ray
    from ray.cluster_utils import Cluster

    os.environ |= {**ENVIRONMENT, "PYTHONPATH": str(ROOT)}
    noticed_soon = {
        "health_check_initial_delay_ms": 1000,
        "health_check_period_ms": 500,
        "health_check_failure_threshold": 4,
    }
    head = {"num_cpus": 1, "include_dashboard": False, "_system_config": noticed_soon}
    cluster = patiently(lambda: Cluster(initialize_head=True, head_node_args=head))
    ray.init(address=cluster.address, logging_level="ERROR", log_to_driver=False)
    write_pictures(pictures := work / "pictures")
    in_order = write_table(pictures, work / "in_order.csv", None)
    shuffled = write_table(pictures, work / "shuffled.csv", 1)
    found: dict[str, Any] = {"one worker": build(in_order, str(work / "one"))}
    second = patiently(lambda: cluster.add_node(num_cpus=1))
    cluster.wait_for_nodes()
    found["nodes"] = sum(node["Alive"] for node in ray.nodes())
    found["two workers"] = build(in_order, str(work / "a"))
    opened_once = {"two workers": build(in_order, str(work / "plain"), **PLAIN)}

    tasks.CPUS = 0.25  # of a worker: eight on the two cores
    shutil.copytree(pictures, work / "later" / "pictures")
    for path in (work / "later" / "pictures").iterdir():
        os.utime(path, (2**31, 2**31))
    moved = write_table(work / "later" / "pictures", work / "later" / "table.csv", None)
    real = time.time
    time.time = lambda: real() + 3e8
    given: list[int] = []
    found["eight workers, S3, another clock"] = build(
        moved, f"s3://{bucket}/b", lambda *_: given.append(tasks._ahead())
    )
    found["tasks given at a time to eight"] = max(given)
    time.time = real
    try:
        build(moved, f"s3://{bucket}/plain", stop_at("pack", 3), **PLAIN)
    except Stop:
        opened_once["eight workers, S3, interrupted"] = build(moved, f"s3://{bucket}/plain", **PLAIN)

    asked: list[int] = []

    class Watched(graph.Shuffle):
        """Takes down that it was asked."""

        def map(self, *given: Any, **more: Any) -> Any:
            asked.append(len(given))
            return super().map(*given, **more)

    tasks.CPUS = 1.0
    graph.Shuffle = Watched
    few, graph.SHUFFLED = graph.SHUFFLED, 0  # both nodes look for duplicates
    for phase, units in (("survey", 1), ("pack", 3)):
        try:
            build(shuffled, str(work / "c"), stop_at(phase, units))
        except Stop:
            found.setdefault("stopped", []).append(phase)
    found["shuffled listing, interrupted twice"] = build(shuffled, str(work / "c"))
    graph.SHUFFLED = few
    found["questions to both nodes"] = len(asked)

    def remove(phase: str, done: int, _: int) -> None:
        if phase == "pack" and done >= 4 and len(cluster.list_all_nodes()) == 2:
            cluster.remove_node(second, allow_graceful=False)

    found["a node removed while packing, one worker after it"] = build(in_order, str(work / "d"), remove)
    deadline = time.monotonic() + 300  # Ray takes its time to miss a node
    while (alive := sum(node["Alive"] for node in ray.nodes())) > 1 and time.monotonic() < deadline:
        time.sleep(1)
    found["nodes at the end"] = alive
    (work / "found.json").write_text(json.dumps({**found, "opened once": opened_once}))
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
