"""One training process: its loader, its copy of the model, and the loop over steps."""

import json
import math
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

from jobs.config.schema import TrainJob
from jobs.schedules import schedule


class Run:
    """Made from what `jobs.train.run_config` gives; takes up the newest intact checkpoint of its output."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        from accelerate.utils import set_seed

        from jobs.averaging import Average
        from jobs.blocks import prepare_blocks
        from jobs.checkpoint import newest
        from jobs.meters import Meter
        from jobs.optimizers import optimizer_of
        from jobs.wiring import build_task
        from pipelines.shards.storage import open_storage

        self.config = config
        self.job = job = TrainJob.model_validate(config["job"])
        self.spec = spec = config["spec"]
        self.storage = open_storage(job.output)
        self.log = None if "://" in job.output else Path(job.output, "log.jsonl")
        self.accelerator = _accelerator(job)
        set_seed(job.seed)
        task = build_task(spec)
        prepare_blocks(task, compile=job.compile, recompute=job.recompute)
        optimizer = optimizer_of(
            job.optimizer,
            task,
            learning_rate=job.learning_rate,
            weight_decay=job.weight_decay,
            layer_decay=job.layer_decay,
        )
        self.loader, self.held_out = self._loaders()
        self.step, self.stopped = 0, False
        self.best: dict[str, Any] | None = None
        self.stale = 0  # measurements since the best
        self.summary: dict[str, Any] = {"loss": math.nan, "metrics": {}}
        start = newest(self.storage)
        if start:
            task.load_state_dict(dict(start.model))
            optimizer.load_state_dict(dict(start.optimizer))
            self._resume(start)
        task.to(self.accelerator.device)
        self.average = None if job.average is None else Average(task, job.average)
        if start and self.average:
            self.average.load(start.average)
        self.task, self.optimizer = self.accelerator.prepare(task, optimizer)
        self.plain = self.accelerator.unwrap_model(self.task)
        workers = self.accelerator.num_processes
        self.meter = Meter(self.plain, workers=workers, device=self.accelerator.device)

    def _loaders(self) -> tuple[Any, Any]:
        """Of the training split, and of the held-out one, None where that is empty."""
        from pipelines.loading import Loader, Part
        from pipelines.shards.dataset import Dataset

        job, spec, accelerator = self.job, self.spec, self.accelerator
        places = [job.dataset, *(part.dataset for part in job.more)]
        weights = [job.weight, *(part.weight for part in job.more)]
        opened = [Dataset.open(place, n) for place, n in zip(places, self.config["snapshots"], strict=True)]
        common: dict[str, Any] = {
            "options": spec["data"], "targets": spec["targets"], "labelled": spec["task"] == "classification",
        }  # fmt: skip
        every: dict[str, Any] = {
            "batch_size": job.batch_size // accelerator.num_processes,
            "rank": accelerator.process_index,
            "world_size": accelerator.num_processes,
            "num_workers": job.loader_workers,
        }
        learn = {**common, "split": "train", "augment": True if job.augment is None else list(job.augment)}
        if job.more:
            parts = [Part(dataset=d, weight=w, **learn) for d, w in zip(opened, weights, strict=True)]
            loader = Loader(parts, seed=job.seed, mix="samples", **every)
        else:
            loader = Loader(opened[0], seed=job.seed, **learn, **every)
        split = job.validation.split
        if not any(shard.split == split for shard in opened[0].manifest.shards):
            return loader, None
        return loader, Loader(opened[0], split=split, shuffle=False, **common, **every)

    def _resume(self, start: Any) -> None:
        """Take up a checkpoint's place in the data, its step, its best, and fp16's scale of gradients."""
        self.loader.load_state_dict(start.facts["loader"])
        if self.accelerator.scaler is not None and start.facts.get("scaler"):
            self.accelerator.scaler.load_state_dict(start.facts["scaler"])
        self.step, self.best, self.stale = start.step, start.facts["best"], start.facts["stale"]
        self.stopped, self.summary = start.facts["stopped"], dict(start.facts["summary"])

    def work(self) -> None:
        """Train to the job's last step, or until nothing got better for as long as the job says."""
        import torch

        job, accelerator, meter = self.job, self.accelerator, self.meter
        if accelerator.is_main_process:
            self._open_log()
        batches = self.loader.stream()
        while self.step < job.steps and not self.stopped:
            meter.begin()
            batch = next(batches)
            meter.data()
            # The randomness of a step depends on the step alone, so there is no state to save and restore.
            torch.manual_seed(job.seed * 1_000_003 + self.step * 1_009 + accelerator.process_index)
            facts = self._update(batch)
            self.step += 1
            if accelerator.is_main_process:
                speed = meter.end(samples=job.batch_size, left=job.steps - self.step)
                self._record({"step": self.step, **facts, **speed})
            self.summary["loss"] = facts["loss"]
            due = job.checkpoint_every is not None and self.step % job.checkpoint_every == 0
            if self._judge() or due or self.stopped or self.step == job.steps:
                self._save()
        if accelerator.is_main_process and accelerator.log_with:
            accelerator.end_training()

    def _parts(self, batch: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """The batch in the passes that the step is divided into, on the device."""
        import torch

        device, passes = self.accelerator.device, self.job.accumulate
        tensors = {name: value for name, value in batch.items() if isinstance(value, torch.Tensor)}
        size = self.job.batch_size // self.accelerator.num_processes // passes
        for i in range(passes):
            yield {name: value[i * size : (i + 1) * size].to(device) for name, value in tensors.items()}

    def _update(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """One step of the optimizer; what the log says of it."""
        job, accelerator = self.job, self.accelerator
        share = schedule(
            job.schedule,
            self.step,
            steps=job.steps,
            warmup=job.num_warmup_steps,
            cooldown=job.num_cooldown_steps,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = job.learning_rate * share * group["rate"]
        self.task.train()
        self.optimizer.zero_grad(set_to_none=True)
        total: Any = 0.0
        for i, part in enumerate(self._parts(batch)):
            alone = i + 1 < job.accumulate  # gradients travel between workers with the last pass only
            with accelerator.no_sync(self.task) if alone else nullcontext():
                with accelerator.autocast():
                    loss = self.task(part)["loss"] / job.accumulate
                if not loss.isfinite():
                    raise FloatingPointError(
                        f"the loss is {loss.item()} at step {self.step}; lower learning_rate or set "
                        "precision: fp32"
                    )
                accelerator.backward(loss)
            total = total + loss.detach()
        limit = math.inf if job.gradient_clip is None else job.gradient_clip
        norm = float(accelerator.clip_grad_norm_(self.task.parameters(), limit))
        self.optimizer.step()
        if self.average:
            self.average.update(self.plain, self.step + 1)
        return {
            "loss": float(accelerator.reduce(total, "mean")),
            "learning_rate": job.learning_rate * share,
            "gradient_norm": norm if math.isfinite(norm) else None,  # fp16: the scaler skips the step
        }

    def _judge(self) -> bool:
        """Measure the held-out split when it is time to; whether this is the best there was."""
        from jobs.evaluation import better, measure

        job, check = self.job, self.job.validation
        due = self.step == job.steps or (check.every is not None and self.step % check.every == 0)
        if self.held_out is None or not due:
            return False
        with ExitStack() as averaged:
            if self.average:
                averaged.enter_context(self.average.inside(self.plain))
            metrics = measure(self.accelerator, self.plain, self.held_out)
        self.summary["metrics"] = {f"{check.split}_{name}": value for name, value in metrics.items()}
        if self.accelerator.is_main_process:
            self._record({"step": self.step, **self.summary["metrics"]})
        found = better(metrics, self.best, metric=check.metric)
        if found is None:
            self.stale += 1
            self.stopped = check.patience is not None and self.stale >= check.patience
            return False
        self.best, self.stale = {"step": self.step, **found}, 0
        return True

    def _save(self) -> None:
        from jobs import checkpoint

        if self.accelerator.is_main_process:
            facts = {
                "spec": self.spec, "job": self.job.resolved(), "job_digest": self.job.digest(),
                "snapshots": self.config["snapshots"], "manifests": self.config["manifests"],
                "loader": self.loader.state_dict(),
                "scaler": scaler.state_dict() if (scaler := self.accelerator.scaler) is not None else None,
                "summary": self.summary, "best": self.best, "stale": self.stale, "stopped": self.stopped,
            }  # fmt: skip
            state = checkpoint.Checkpoint(
                step=self.step,
                model=self.plain.state_dict(),
                optimizer=self.optimizer.state_dict(),
                average=self.average.weights if self.average else {},
                facts=facts,
            )
            checkpoint.write(self.storage, state)
            if self.job.keep is not None:
                checkpoint.prune(
                    self.storage, self.job.keep, besides=self.best["step"] if self.best else None
                )
        self.accelerator.wait_for_everyone()

    def _record(self, facts: Mapping[str, Any]) -> None:
        self._write(facts)
        if "loss" in facts:
            self.meter.publish(facts)
        if self.accelerator.log_with:
            values = {name: value for name, value in facts.items() if name != "step"}
            self.accelerator.log(values, step=facts["step"])

    def _write(self, facts: Mapping[str, Any]) -> None:
        if self.log is not None:
            with self.log.open("a") as file:
                file.write(json.dumps({"time": time.time(), **facts}) + "\n")

    def _open_log(self) -> None:
        """Drop what was logged after the checkpoint that this process starts from, and say who starts."""
        if self.accelerator.log_with:
            self.accelerator.init_trackers("tensorboard")
        if self.log is None:
            return
        self.log.parent.mkdir(parents=True, exist_ok=True)
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        kept = [line for line in lines if _step(line) <= self.step]
        fresh = self.log.with_suffix(".new")
        fresh.write_text("".join(f"{line}\n" for line in kept))
        fresh.replace(self.log)
        start = {"host": socket.gethostname(), "pid": os.getpid(), "workers": self.accelerator.num_processes}
        self._write({"step": self.step, "start": start})


def _accelerator(job: TrainJob) -> Any:
    import torch
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.utils import is_tensorboard_available

    boards = ["tensorboard"] if "://" not in job.output and is_tensorboard_available() else None
    AcceleratorState._reset_state(reset_partial_state=True)  # of a run that this process did before
    accelerator = Accelerator(
        cpu=not torch.cuda.is_available(),
        mixed_precision="no" if job.precision == "fp32" else job.precision,
        log_with=boards,
        project_dir=job.output if boards else None,
    )
    if job.precision == "fp16" and accelerator.scaler is None:  # accelerate would compute in fp32
        raise ValueError(
            f"precision fp16 needs a GPU, this worker has {accelerator.device}; want bf16 or fp32"
        )
    return accelerator


def _step(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError):  # a line cut off by a kill
        return math.inf
