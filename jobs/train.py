"""Run a training job: Ray Train starts the workers, accelerate runs the steps."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jobs.cluster import cluster
from jobs.config.schema import TrainJob
from jobs.group import fit
from jobs.progress import Progress


def run(job: TrainJob) -> int:
    """Exit code 0; the run's log, checkpoints and summary lie in the job's output."""
    summary = train_model(job)
    held_out = "".join(f", {name} {value:.4g}" for name, value in summary["metrics"].items())
    print(f"{job.output}: {summary['step']} steps, loss {summary['loss']:.4g}{held_out}")
    if not summary["metrics"]:
        print(f"  nothing was held out: split {job.validation.split!r} of {job.dataset} is empty")
    return 0


def train_model(job: TrainJob) -> dict[str, Any]:
    """Train, or go on with, the job's run and return its last metrics."""
    import torch

    from jobs import checkpoint
    from jobs.wiring import build_task
    from pipelines.shards.manifest import Conflict
    from pipelines.shards.storage import open_storage

    storage = open_storage(job.output)
    done = checkpoint.newest(storage, optimizer=False)
    places = [job.dataset, *(part.dataset for part in job.more)]
    # A run keeps to the snapshots that it began with: the order of samples is a function of them.
    known = [*done.facts["snapshots"], *[None] * len(places)] if done else [None] * len(places)
    datasets = [_open(place, number) for place, number in zip(places, known, strict=False)]
    if done and done.facts["manifests"] != [dataset.manifest.digest for dataset in datasets]:
        raise Conflict(
            f"{job.output} holds a run on another dataset than {', '.join(places)}; give this one its own"
        )
    # A worker's current folder is not the user's.
    more = [
        part.model_copy(update={"dataset": dataset.storage.url})
        for part, dataset in zip(job.more, datasets[1:], strict=True)
    ]
    here = {"output": storage.url, "dataset": datasets[0].storage.url, "more": tuple(more)}
    job = job.model_copy(update=here)
    if done and done.facts["job_digest"] != job.digest():
        changed = _changed(done.facts["job"], job.resolved())
        raise Conflict(f"{job.output} holds a run of another job ({changed}); give this one its own output")
    if done and not job.resume:
        raise Conflict(f"{job.output} holds a run at step {done.step}; set resume: true to go on with it")
    if done and (done.step >= job.steps or done.facts["stopped"]):
        return {"step": done.step, **done.facts["summary"]}
    config = run_config(job, *datasets)
    with torch.device("meta"):
        build_task(config["spec"])  # a wrong model or option is said before Ray starts
    with cluster(), _following(job, config["spec"]["model"]):
        fit(config, job)
    last = checkpoint.newest(storage, optimizer=False)
    if last is None:
        raise RuntimeError(f"the run in {job.output} ended without a checkpoint")
    return {"step": last.step, **last.facts["summary"]}


def _open(place: str, snapshot: int | None) -> Any:
    from pipelines.shards.dataset import Dataset

    try:
        return Dataset.open(place, snapshot)
    except FileNotFoundError:
        return Dataset.open(place)


def run_config(job: TrainJob, *datasets: Any) -> dict[str, Any]:
    """What a Run is made from, JSON-able: the job, the snapshots, and what the model takes and gives."""
    from jobs.runlog import trackers_of
    from jobs.wiring import check_mixture, part_specs, task_spec

    check_mixture(job, datasets)
    spec = task_spec(job, datasets[0])
    if any(part.task for part in job.more):
        spec["more"] = part_specs(job, datasets)
    trackers_of(job)  # one that is missing is said before Ray starts
    return {
        "job": job.model_dump(),
        "spec": spec,
        "snapshots": [dataset.manifest.number for dataset in datasets],
        "manifests": [dataset.manifest.digest for dataset in datasets],
    }


def _changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    names = [k for k in sorted({*old, *new}) if old.get(k) != new.get(k) and k not in ("dataset", "output")]
    return "differs in " + ", ".join(names) if names else "of another dataset"


@contextmanager
def _following(job: TrainJob, name: str) -> Iterator[None]:
    """Show the run's log while it grows: the workers may be on other machines, the terminal is here."""
    if "://" in job.output:
        yield
        return
    stop, progress = threading.Event(), Progress(f"train {name}")

    def follow() -> None:
        shown = 0
        while not stop.wait(1.0):
            record = _last_record(Path(job.output, "log.jsonl"))
            if record and int(record["step"]) != shown:
                shown = int(record["step"])
                names = ("loss", "samples_s", "tokens_s", "mfu", "data_wait", "memory_bytes", "skipped")
                shown_facts = {name: record[name] for name in names if name in record}
                progress("steps", shown, job.steps, eta_s=record["eta_s"], **shown_facts)

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        progress.close()


def _last_record(path: Path) -> dict[str, float] | None:
    """The newest whole line of a log that has a loss."""
    if not path.exists():
        return None
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 4096))
        for line in reversed(file.read().split(b"\n")):
            try:
                if "loss" in (record := json.loads(line)):
                    return dict(record)
            except ValueError:  # cut off, at either end
                continue
    return None
