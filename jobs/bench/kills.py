"""A run that is killed three times beside one that is not, and a plot. `python -m jobs.bench.kills`.

SIGKILL of the worker, which the job itself replaces; of the driver and all it started, after which the same
command is given again, now to a cluster of two machines; and there the machine that trains is taken away.
Exit code 0 when the steps of both runs have the same losses and the last checkpoints the same bits.
"""

import argparse
import contextlib
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from jobs import checkpoint, ingest, train
from jobs.cluster import ENVIRONMENT, ROOT, cluster, patiently
from jobs.config import IngestJob, TrainJob, load_job
from pipelines.shards.storage import open_storage

LIMIT_S: Final = 300.0  # of one attempt
KILLS: Final = ("worker", "driver", "node")
NOTICED_SOON: Final = {
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 500,
    "health_check_failure_threshold": 4,
}
Facts = dict[str, Any]


class Follower:
    """Reads a run's log while it grows, and keeps also the steps that the run will do again."""

    def __init__(self, output: Path) -> None:
        self.starts: list[Facts] = []  # of each start: the step gone on from, pid, and the losses since
        self._path, self._stop = output / "log.jsonl", threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> "Follower":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._read()

    def _follow(self) -> None:
        while not self._stop.wait(0.03):
            self._read()

    def _read(self) -> None:
        lines = self._path.read_text().splitlines() if self._path.exists() else []
        records = []
        for line in lines:
            with contextlib.suppress(ValueError):  # the last one may be half written
                records.append(json.loads(line))
        began = [i for i, record in enumerate(records) if "start" in record]
        if not began:
            return
        newest, start = began[-1], records[began[-1]]
        if not self.starts or self.starts[-1]["time"] != start["time"]:
            self.starts.append({"time": start["time"], "from": start["step"], **start["start"], "losses": {}})
        losses = {r["step"]: r["loss"] for r in records[newest:] if "loss" in r}
        self.starts[-1]["losses"].update(losses)

    def step(self) -> int:
        """The last step of the newest start; -1 before it has one."""
        return max(self.starts[-1]["losses"], default=-1) if self.starts else -1


def undisturbed_run(folder: Path, *, steps: int) -> None:
    """Pictures in four classes, and a job with all in it that draws at random: `train.yaml` in `folder`."""
    (folder / "ingest.yaml").write_text(
        f"kind: ingest\nmodality: image\nsource: {{synth: 192}}\noutput: {folder / 'data'}\n"
        "shards: {max_samples: 24}\nsplit: {val: 0.2}\nworkers: 2\n"
    )
    (folder / "train.yaml").write_text(
        f"kind: train\ndataset: {folder / 'data'}\ntask: classification\n"
        "model: {name: window_nano, options: {drop_path: 0.1}}\n"
        f"steps: {steps}\nbatch_size: 16\nlearning_rate: 1e-3\naverage: 0.99\ndata: {{size: 32}}\n"
        f"validation: {{every: {steps // 6}}}\ncheckpoint_every: {max(2, steps // 12)}\nloader_workers: 2\n"
        f"output: {folder / 'whole'}\n"
    )
    made, learned = (load_job(folder / f"{name}.yaml") for name in ("ingest", "train"))
    assert isinstance(made, IngestJob)
    assert isinstance(learned, TrainJob)
    with cluster():
        ingest.run(made)
        train.run(learned)


def start(job: Path, *changes: str, address: str = "") -> subprocess.Popen[bytes]:
    """`rayloom run`, in a process group of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **({"RAY_ADDRESS": address} if address else {})}
    command = [sys.executable, "-m", "jobs.cli", "run", str(job), *changes]
    return subprocess.Popen(command, env=environment, start_new_session=True, stdout=subprocess.DEVNULL)


def wait_for(process: subprocess.Popen[bytes], follower: Follower, step: int, *, starts: int) -> None:
    """Until the run, started so many times, has done `step`."""
    deadline = time.monotonic() + LIMIT_S
    while len(follower.starts) < starts or follower.step() < step:
        if process.poll() is not None:
            raise RuntimeError(f"the run ended with {process.returncode} before step {step}")
        if time.monotonic() > deadline:
            end(process)
            raise TimeoutError(f"no step {step} within {LIMIT_S:.0f} s")
        time.sleep(0.02)


def end(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL for the driver and for all that it has started, as when a machine loses its power."""
    import psutil

    with contextlib.suppress(psutil.Error):
        family = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        for child in family:
            with contextlib.suppress(psutil.Error):
                child.kill()
    process.wait()


@contextlib.contextmanager
def machines(count: int, *, cores: int) -> Iterator[Any]:
    """A Ray cluster on this machine: a head without cores, and so many nodes of so many cores."""
    from ray.cluster_utils import Cluster

    os.environ.update(ENVIRONMENT | {"PYTHONPATH": str(ROOT)})
    head = {"num_cpus": 0, "include_dashboard": False, "_system_config": NOTICED_SOON}
    found = patiently(lambda: Cluster(initialize_head=True, head_node_args=head))
    for _ in range(count):
        patiently(lambda: found.add_node(num_cpus=cores))
    try:
        yield found
    finally:
        found.shutdown()  # type: ignore[no-untyped-call]


def remove_machine_of(there: Any, pid: int) -> None:
    """Take away the node on which a process runs: it is a child of the node's raylet."""
    import psutil

    parents = {parent.pid for parent in psutil.Process(pid).parents()}
    for node in there.worker_nodes:
        if any(info.process.pid in parents for info in node.all_processes["raylet"]):
            there.remove_node(node, allow_graceful=False)
            return
    raise LookupError(f"process {pid} runs on no node of the cluster")


def killed_run(folder: Path, steps: int) -> list[Facts]:
    """The run's starts, after three kills at a quarter, a half and three quarters of its steps."""
    job, output = folder / "train.yaml", folder / "killed"
    at = [round(steps * share) + 1 for share in (0.27, 0.52, 0.77)]
    with Follower(output) as follower:
        process = start(job, f"output={output}")
        wait_for(process, follower, at[0], starts=1)
        os.kill(follower.starts[-1]["pid"], signal.SIGKILL)
        wait_for(process, follower, at[1], starts=2)
        end(process)
        with machines(2, cores=os.cpu_count() or 1) as there:
            process = start(job, f"output={output}", address=there.address)
            wait_for(process, follower, at[2], starts=3)
            remove_machine_of(there, follower.starts[-1]["pid"])
            try:
                code = process.wait(LIMIT_S)
            except subprocess.TimeoutExpired:
                end(process)
                raise
        if code:
            raise RuntimeError(f"the run ended with {code}")
    return follower.starts


def study(folder: Path, *, steps: int) -> Facts:
    """Both runs, and whether they coincide."""
    undisturbed_run(folder, steps=steps)
    starts = killed_run(folder, steps)
    whole = losses(folder / "whole")
    ends = [checkpoint.newest(open_storage(str(folder / name))) for name in ("whole", "killed")]
    assert ends[0] is not None
    assert ends[1] is not None
    same = all(
        bool((getattr(ends[1], part)[name] == value).all())
        for part in ("model", "average")
        for name, value in getattr(ends[0], part).items()
    )
    kills = [
        {"killed": victim, "after_step": max(before["losses"]), "went_on_from": after["from"]}
        for victim, before, after in zip(KILLS, starts, starts[1:], strict=False)
    ]
    import torch

    return {
        "steps": steps,
        "kills": kills,
        "starts": len(starts),
        "same_losses": losses(folder / "killed") == whole and len(whole) == steps,
        "done_again_same": all(whole[s] == v for start in starts for s, v in start["losses"].items()),
        "same_weights": same,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}",
        "whole": list(whole.values()),
        "killed": [sorted(start["losses"].items()) for start in starts],
    }


def losses(output: Path) -> dict[int, float]:
    """What a finished run's log says."""
    records = map(json.loads, (output / "log.jsonl").read_text().splitlines())
    return {record["step"]: record["loss"] for record in records if "loss" in record}


def plot(result: Mapping[str, Any], path: Path) -> None:
    """Both losses above, what is between them below."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (above, below) = pyplot.subplots(
        2, 1, figsize=(10, 6), sharex=True, height_ratios=(4, 1), layout="constrained"
    )
    whole = result["whole"]
    steps = range(1, len(whole) + 1)
    above.plot(steps, whole, color="0.75", linewidth=5, label="never killed")
    most = 1e-7  # of the difference: what is no zero must be seen
    ends = [kill["went_on_from"] for kill in result["kills"]] + [len(whole)]
    for i, (run, end) in enumerate(zip(result["killed"], ends, strict=True)):
        numbers, values = zip(*run, strict=True)
        above.plot(numbers, values, color=f"C{i}", linewidth=1.2, label=f"start {i + 1}")
        lost = [(number, value) for number, value in run if number > end]
        if lost:
            above.plot(*zip(*lost, strict=True), "o", color=f"C{i}", markersize=7, fillstyle="none")
        between = [value - whole[number - 1] for number, value in run]
        below.plot(numbers, between, color=f"C{i}", linewidth=2)
        most = max(most, *map(abs, between))
    for kill in result["kills"]:
        last, first = kill["after_step"], kill["went_on_from"]
        for pane in (above, below):
            pane.axvspan(first + 0.5, last + 0.5, color="0.5", alpha=0.2, linewidth=0)
            pane.axvline(last + 0.5, color="0.2", linestyle=":", linewidth=1)
        place = (last + 0.5, 1.0)
        above.annotate(
            f" {kill['killed']} killed", place, xycoords=("data", "axes fraction"), va="bottom", fontsize=9
        )
    above.set(ylabel="loss of the step")
    above.legend(loc="upper right", frameon=False)
    below.set(xlabel="step (shaded: lost, and done again; rings: what was lost)", ylabel="difference")
    below.set_ylim(-1.1 * most, 1.1 * most)
    for pane in (above, below):
        pane.grid(alpha=0.3)
        pane.margins(x=0.01)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def main() -> int:
    """Write kills.json and kills.png, and print what they say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--steps", type=int, default=240)
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "benchmarks")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rayloom-bench-") as folder:
        result = study(Path(folder), steps=options.steps)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "kills.json").write_text(json.dumps(result) + "\n", encoding="utf-8")
    plot(result, options.output / "kills.png")
    shown = {name: value for name, value in result.items() if name not in ("whole", "killed")}
    print(json.dumps(shown, indent=1))
    return 0 if result["same_losses"] and result["done_again_same"] and result["same_weights"] else 1


if __name__ == "__main__":
    sys.exit(main())
