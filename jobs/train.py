"""Run a training job: Ray Train starts the workers, accelerate runs the steps."""

import json
import math
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jobs.cluster import cluster
from jobs.config.schema import TrainJob
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
    from pipelines.shards.dataset import Dataset
    from pipelines.shards.manifest import Conflict
    from pipelines.shards.storage import open_storage

    storage = open_storage(job.output)
    done = checkpoint.newest(storage, optimizer=False)
    # A run keeps to the snapshot that it began with: the order of samples is a function of it.
    try:
        dataset = Dataset.open(job.dataset, done.facts["snapshot"] if done else None)
    except FileNotFoundError:
        dataset = Dataset.open(job.dataset)
    if done and done.facts["manifest"] != dataset.manifest.digest:
        raise Conflict(
            f"{job.output} holds a run on another dataset than {job.dataset}; give this one its own"
        )
    # A worker's current folder is not the user's.
    job = job.model_copy(update={"output": storage.url, "dataset": dataset.storage.url})
    if done and done.facts["job_digest"] != job.digest():
        changed = _changed(done.facts["job"], job.resolved())
        raise Conflict(f"{job.output} holds a run of another job ({changed}); give this one its own output")
    if done and not job.resume:
        raise Conflict(f"{job.output} holds a run at step {done.step}; set resume: true to go on with it")
    if done and done.step >= job.steps:
        return {"step": done.step, **done.facts["summary"]}
    config = run_config(job, dataset)
    with torch.device("meta"):
        build_task(config["spec"])  # a wrong model or option is said before Ray starts
    with cluster(), _following(job, config["spec"]["model"]):
        _fit(config, job)
    last = checkpoint.newest(storage, optimizer=False)
    if last is None:
        raise RuntimeError(f"the run in {job.output} ended without a checkpoint")
    return {"step": last.step, **last.facts["summary"]}


def run_config(job: TrainJob, dataset: Any) -> dict[str, Any]:
    """What a Run is made from, JSON-able: the job, the snapshot, and what the model takes and gives."""
    from jobs.wiring import task_spec

    return {
        "job": job.model_dump(),
        "spec": task_spec(job, dataset),
        "snapshot": dataset.manifest.number,
        "manifest": dataset.manifest.digest,
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
                progress("steps", shown, job.steps, loss=record["loss"], samples_s=record["samples_s"])

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


def _fit(config: dict[str, Any], job: TrainJob) -> None:
    """Ray Train with a worker for each of `job.workers`, the cores shared out among them.

    One worker is a Ray task in which Ray Train runs the loop where it is called: the controller and the three
    actors that serve a group of workers would each start Python and import torch, to coordinate nobody.
    """
    import ray

    there: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    cores = max(1, int(there.get("CPU", 1)) // job.workers)
    gpus = there.get("GPU", 0) >= job.workers
    if job.workers == 1:
        loop: Any = _train  # what Ray makes of it has a type of its own
        alone = ray.remote(loop).options(num_cpus=cores, num_gpus=int(gpus), max_retries=0)
        ray.get(alone.remote(config, workers=0, cores=cores))
    else:
        _train(config, workers=job.workers, cores=cores, gpus=gpus)


def _train(config: dict[str, Any], *, workers: int, cores: int, gpus: bool = False) -> None:
    """Ray Train's trainer over `workers` processes of their own, or with 0 in this one."""
    import tempfile

    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    resources = {"CPU": cores} if workers else None
    with tempfile.TemporaryDirectory(prefix="rayloom-train-") as notes:  # Ray's own; ours are in output
        TorchTrainer(
            _work,
            train_loop_config={**config, "threads": cores},
            scaling_config=ScalingConfig(num_workers=workers, use_gpu=gpus, resources_per_worker=resources),
            run_config=RunConfig(name="run", storage_path=notes),
        ).fit()


def _work(config: dict[str, Any]) -> None:
    """What each training process does."""
    import torch

    torch.set_num_threads(config["threads"])  # Ray reuses processes, whatever they were started for
    Run(config).work()


class Run:
    """One training process: its loader, its copy of the model, and the loop."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        import torch
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState
        from accelerate.utils import is_tensorboard_available, set_seed

        from jobs.checkpoint import newest, optimizer_of
        from jobs.wiring import build_task
        from pipelines.loading import Loader
        from pipelines.shards.dataset import Dataset
        from pipelines.shards.storage import open_storage

        self.config = config
        self.job = job = TrainJob.model_validate(config["job"])
        self.spec = spec = config["spec"]
        self.storage = open_storage(job.output)
        local = "://" not in job.output
        self.log = Path(job.output, "log.jsonl") if local else None
        boards = ["tensorboard"] if local and is_tensorboard_available() else None
        AcceleratorState._reset_state(reset_partial_state=True)  # of a run that this process did before
        self.accelerator = Accelerator(
            cpu=not torch.cuda.is_available(),
            mixed_precision="no" if job.precision == "fp32" else job.precision,
            log_with=boards,
            project_dir=job.output if boards else None,
        )
        if job.precision == "fp16" and self.accelerator.scaler is None:  # accelerate would compute in fp32
            raise ValueError(
                f"precision fp16 needs a GPU, this worker has {self.accelerator.device}; want bf16 or fp32"
            )
        set_seed(job.seed)
        task = build_task(spec)
        optimizer = optimizer_of(
            task.parameters(), learning_rate=job.learning_rate, weight_decay=job.weight_decay
        )
        self.dataset = Dataset.open(job.dataset, config["snapshot"])
        ranks = {"rank": self.accelerator.process_index, "world_size": self.accelerator.num_processes}
        common = {
            "options": spec["data"],
            "targets": spec["targets"],
            "num_workers": job.loader_workers,
            "labelled": spec["task"] == "classification",
        }
        self.loader = Loader(
            self.dataset,
            batch_size=job.batch_size // self.accelerator.num_processes,
            seed=job.seed,
            split="train",
            augment=True,
            **ranks,
            **common,
        )
        self.held_out: Loader | None = None
        if any(shard.split == job.validation.split for shard in self.dataset.manifest.shards):
            self.held_out = Loader(
                self.dataset,
                batch_size=job.batch_size // self.accelerator.num_processes,
                split=job.validation.split,
                shuffle=False,
                **ranks,
                **common,
            )
        self.step = 0
        if start := newest(self.storage):
            task.load_state_dict(dict(start.model))
            optimizer.load_state_dict(dict(start.optimizer))
            self._resume(start)
        self.task, self.optimizer = self.accelerator.prepare(task, optimizer)
        self.summary: dict[str, Any] = {"loss": math.nan, "metrics": {}}

    def _resume(self, start: Any) -> None:
        """Take up a checkpoint's place in the data, its step, and fp16's scale of gradients."""
        self.loader.load_state_dict(start.facts["loader"])
        if self.accelerator.scaler is not None and start.facts.get("scaler"):
            self.accelerator.scaler.load_state_dict(start.facts["scaler"])
        self.step = start.step

    def work(self) -> None:
        """Train to the job's last step."""
        import torch

        job, accelerator = self.job, self.accelerator
        if accelerator.is_main_process:
            self._trim_log()
            if accelerator.log_with:
                accelerator.init_trackers("tensorboard")
        batches, waited, began = self.loader.stream(), 0.0, time.perf_counter()
        while self.step < job.steps:
            asked = time.perf_counter()
            batch = self._tensors(next(batches))
            waited += time.perf_counter() - asked
            # The randomness of a step depends on the step alone, so there is no state to save and restore.
            torch.manual_seed(job.seed * 1_000_003 + self.step * 1_009 + accelerator.process_index)
            loss, norm = self._update(batch)
            self.step += 1
            facts = {
                "loss": loss,
                "learning_rate": self.optimizer.param_groups[0]["lr"],
                "gradient_norm": norm if math.isfinite(norm) else None,  # fp16: the scaler skips the step
            }
            if accelerator.is_main_process:
                spent = time.perf_counter() - began
                speed = {"samples_s": job.batch_size / spent, "data_wait": waited / spent}
                self._record({"step": self.step, **facts, **speed})
            waited, began = 0.0, time.perf_counter()
            self.summary["loss"] = loss
            last = self.step == job.steps
            if self.held_out and (last or (job.validation.every and self.step % job.validation.every == 0)):
                self.summary["metrics"] = self._validate(self.held_out)
                if accelerator.is_main_process:
                    self._record({"step": self.step, **self.summary["metrics"]})
            if last or (job.checkpoint_every and self.step % job.checkpoint_every == 0):
                self._save()
        if accelerator.is_main_process and accelerator.log_with:
            accelerator.end_training()

    def _tensors(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        device = self.accelerator.device
        return {name: value.to(device) for name, value in batch.items() if name != "key"}

    def _update(self, batch: Mapping[str, Any]) -> tuple[float, float]:
        job = self.job
        for group in self.optimizer.param_groups:
            group["lr"] = job.learning_rate * schedule(self.step, job.steps, job.num_warmup_steps)
        self.task.train()
        with self.accelerator.autocast():
            loss = self.task(batch)["loss"]
        if not loss.isfinite():
            raise FloatingPointError(
                f"the loss is {loss.item()} at step {self.step}; lower learning_rate or set precision: fp32"
            )
        self.optimizer.zero_grad(set_to_none=True)
        self.accelerator.backward(loss)
        limit = math.inf if job.gradient_clip is None else job.gradient_clip
        norm = self.accelerator.clip_grad_norm_(self.task.parameters(), limit)
        self.optimizer.step()
        return float(self.accelerator.reduce(loss.detach(), "mean")), float(norm)

    def _validate(self, loader: Any) -> dict[str, float]:
        """The mean of every metric over the held-out split, each sample once."""
        import torch

        self.task.eval()
        task = self.accelerator.unwrap_model(self.task)
        totals: dict[str, list[float]] = {}
        with torch.no_grad():
            for batch in loader:
                tensors = self._tensors(batch)
                with self.accelerator.autocast():
                    outputs = task(tensors)
                for name, values in task.metrics(outputs, tensors).items():
                    total = totals.setdefault(name, [0.0, 0.0])
                    counted = values[~values.isnan()].double()  # NaN: the sample has nothing to judge
                    total[0] += float(counted.sum())
                    total[1] += len(counted)
        gathered = _gather(totals) if self.accelerator.num_processes > 1 else [totals]
        names = sorted({name for part in gathered for name in part})
        return {
            f"{self.job.validation.split}_{name}": sum(part[name][0] for part in gathered if name in part)
            / max(1.0, sum(part[name][1] for part in gathered if name in part))
            for name in names
        }

    def _save(self) -> None:
        from jobs import checkpoint

        if self.accelerator.is_main_process:
            facts = {
                "spec": self.spec, "job": self.job.resolved(), "job_digest": self.job.digest(),
                "snapshot": self.config["snapshot"], "manifest": self.config["manifest"],
                "loader": self.loader.state_dict(),
                "scaler": scaler.state_dict() if (scaler := self.accelerator.scaler) is not None else None,
                "summary": self.summary,
            }  # fmt: skip
            model = self.accelerator.unwrap_model(self.task).state_dict()
            state = checkpoint.Checkpoint(
                step=self.step, model=model, optimizer=self.optimizer.state_dict(), facts=facts
            )
            checkpoint.write(self.storage, state)
        self.accelerator.wait_for_everyone()

    def _record(self, facts: Mapping[str, Any]) -> None:
        if self.log is not None:
            with self.log.open("a") as file:
                file.write(json.dumps({"time": time.time(), **facts}) + "\n")
        if self.accelerator.log_with:
            values = {name: value for name, value in facts.items() if name != "step"}
            self.accelerator.log(values, step=facts["step"])

    def _trim_log(self) -> None:
        """Drop what was logged after the checkpoint that this process starts from."""
        if self.log is None:
            return
        self.log.parent.mkdir(parents=True, exist_ok=True)
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        kept = [line for line in lines if _step(line) <= self.step]
        fresh = self.log.with_suffix(".new")
        fresh.write_text("".join(f"{line}\n" for line in kept))
        fresh.replace(self.log)


def _step(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError):  # a line cut off by a kill
        return math.inf


def _gather(totals: dict[str, list[float]]) -> list[dict[str, list[float]]]:
    import torch.distributed as dist

    everyone: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(everyone, totals)
    return everyone


def schedule(step: int, steps: int, warmup: int) -> float:
    """Learning rate as a share of its peak: linear warm-up, then half a cosine to zero."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
