"""What a training step on this machine waits for: `python -m jobs.bench.training [steps]`.

Photographs of 500 x 375 as JPEG, one process, several models and numbers of loader threads. Printed are
medians over the steps after the first: samples and tokens a second, model FLOPs as a share of what the
device can do, and the share of the step spent waiting for data.
"""

import json
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from jobs import train
from jobs.bench.loader import build, photos
from jobs.config.schema import TrainJob
from jobs.loop import Run

PHOTOS: Final = 256
SETTINGS: Final[tuple[dict[str, Any], ...]] = (
    {"model": {"name": "window_nano"}, "data": {"size": 224}, "batch_size": 8, "loader_workers": 0},
    {"model": {"name": "window_nano"}, "data": {"size": 224}, "batch_size": 8, "loader_workers": 1},
    {"model": {"name": "window_nano"}, "data": {"size": 224}, "batch_size": 8, "loader_workers": 2},
    {"model": {"name": "window_nano"}, "data": {"size": 32}, "batch_size": 32, "loader_workers": 0},
    {"model": {"name": "window_nano"}, "data": {"size": 32}, "batch_size": 32, "loader_workers": 2},
)
SHOWN: Final = ("samples_s", "tokens_s", "mfu", "data_wait", "memory_bytes")


def measure(folder: Path, setting: dict[str, Any], *, dataset: Any, steps: int) -> dict[str, float]:
    """Medians of what a run's log says of its steps."""
    values = {
        "kind": "train", "dataset": dataset.storage.url, "task": "masked", "steps": steps, "trackers": [],
        "output": str(folder), "checkpoint_every": None, **setting,
    }  # fmt: skip
    Run(train.run_config(TrainJob.model_validate(values), dataset)).work()
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    steps_done = [record for record in records if "loss" in record][2:]
    return {name: statistics.median(record[name] for record in steps_done) for name in SHOWN}


def rows(steps: int) -> Iterator[str]:
    """A table in Markdown, line by line."""
    yield "| model, pixels, batch | loader threads | samples/s | tokens/s | MFU | data wait | memory |"
    yield "|---|---|---|---|---|---|---|"
    with tempfile.TemporaryDirectory(prefix="rayloom-bench-") as temporary:
        dataset = build(Path(temporary, "data"), "image", photos(PHOTOS), per_shard=64)
        for i, setting in enumerate(SETTINGS):
            found = measure(Path(temporary, f"run{i}"), setting, dataset=dataset, steps=steps)
            what = f"{setting['model']['name']}, {setting['data']['size']}, {setting['batch_size']}"
            yield (
                f"| {what} | {setting['loader_workers']} | {found['samples_s']:.1f} "
                f"| {found['tokens_s']:.0f} | {found['mfu']:.0%} | {found['data_wait']:.1%} "
                f"| {found['memory_bytes'] / 2**20:.0f} MiB |"
            )


if __name__ == "__main__":
    for line in rows(int(sys.argv[1]) if len(sys.argv) > 1 else 12):
        print(line, flush=True)
