"""What a training step on this machine waits for: `python -m jobs.bench.training [steps]`.

`python -m jobs.bench.training memory` prints what each process of a divided run takes to make its part.

Photographs of 500 x 375 as JPEG, one process, several models and numbers of loader threads. Printed are
medians over the steps after the first: samples and tokens a second, model FLOPs as a share of what the
device can do, and the share of the step spent waiting for data.
"""

import json
import os
import socket
import statistics
import subprocess
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


def memory(model: str = "swin_base", *, most: int = 4) -> Iterator[str]:
    """A table of the main memory at the peak, above that of code, by number of processes."""
    yield "| processes | weights, MiB | a process's part, MiB | peak above the start, MiB, each |"
    yield "|---|---|---|---|"
    for count in (2**i for i in range(most.bit_length())):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(count)}
        command = [sys.executable, "-m", "jobs.bench.training", "part", model]
        started = [
            subprocess.Popen(command, env={**os.environ, **where, "RANK": str(rank)}, stdout=subprocess.PIPE)
            for rank in range(count)
        ]
        found = [json.loads(process.communicate(timeout=300)[0]) for process in started]
        peaks = ", ".join(f"{peak / 2**20:.0f}" for peak, _ in found)
        whole = found[0][1] / 2**20
        yield f"| {count} | {whole:.0f} | {whole / count:.0f} | {peaks} |"


def part(model: str) -> tuple[int, int]:
    """Bytes at the peak above the start, and of all weights; in a process of a group."""
    import resource

    import psutil
    import torch
    import torch.distributed.fsdp

    from jobs.deferred import Deferred
    from jobs.parallel import fill, shard
    from models import create_model

    def made(name: str) -> int:
        deferred = Deferred(lambda: create_model(name, num_classes=10))
        size = sum(p.nbytes for p in deferred.module.parameters())
        shard(deferred.module, torch.device("cpu"))
        fill(deferred.module, deferred.weights())
        return size

    torch.distributed.init_process_group("gloo")
    made("window_nano")  # now the code that it takes is in memory
    before = psutil.Process().memory_info().rss
    size = made(model)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    return peak, size


if __name__ == "__main__":
    if sys.argv[1:2] == ["part"]:
        print(json.dumps(part(sys.argv[2])))
        sys.exit()
    table = memory() if sys.argv[1:] == ["memory"] else rows(int(sys.argv[1]) if len(sys.argv) > 1 else 12)
    for line in table:
        print(line, flush=True)
