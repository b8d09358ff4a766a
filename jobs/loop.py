"""One training process: its batches, its copy or its part of the model, and the loop over steps."""

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from typing import Any

from jobs.config.schema import TrainJob
from jobs.schedules import schedule


class Run:
    """Made from what `jobs.train.run_config` gives; takes up the newest intact checkpoint of its output."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        from accelerate.utils import set_seed

        from jobs.feed import Feed
        from jobs.meters import Meter
        from jobs.parallel import accelerator_of
        from jobs.runlog import RunLog, trackers_of, tracking_folder
        from pipelines.shards.storage import open_storage

        self.config = config
        self.job = job = TrainJob.model_validate(config["job"])
        self.spec = spec = config["spec"]
        self.storage = open_storage(job.output)
        self.accelerator = accelerator_of(job, trackers=trackers_of(job), project_dir=tracking_folder(job))
        self.log = RunLog(job, self.accelerator)
        set_seed(job.seed)
        self.feed = Feed(job, spec, config["snapshots"], self.accelerator)
        self.step, self.stopped = 0, False
        self.best: dict[str, Any] | None = None
        self.stale = 0  # measurements since the best
        self.summary: dict[str, Any] = {"loss": math.nan, "metrics": {}}
        self._place()
        workers = self.accelerator.num_processes
        self.meter = Meter(self.plain, workers=workers, device=self.accelerator.device)

    def _place(self) -> None:
        """Model, optimizer and average where they are trained, as in the newest checkpoint if there is one.

        A divided model is never whole in any process: see `jobs.deferred`.
        """
        from jobs.averaging import Average
        from jobs.blocks import prepare_blocks
        from jobs.checkpoint import newest
        from jobs.deferred import Deferred
        from jobs.optimizers import optimizer_of
        from jobs.parallel import divided_state, fill, put, rows_of, shard
        from jobs.wiring import build_task

        job, accelerator = self.job, self.accelerator
        self.sharded = job.parallel == "fsdp" and accelerator.num_processes > 1
        deferred = Deferred(lambda: build_task(self.spec)) if self.sharded else None
        task = deferred.module if deferred else build_task(self.spec).to(accelerator.device)
        prepare_blocks(task, compile=job.compile, recompute=job.recompute)
        if deferred:
            shard(task, accelerator.device)
            fill(task, deferred.weights())
        optimizer = optimizer_of(
            job.optimizer,
            task,
            learning_rate=job.learning_rate,
            weight_decay=job.weight_decay,
            layer_decay=job.layer_decay,
        )
        self.average = None
        if start := newest(self.storage, rows=rows_of(task, optimizer)):
            put(task, start.model)
            optimizer.load_state_dict(divided_state(start.optimizer, optimizer))
            self._resume(start)
        if job.average is not None:
            self.average = Average(task, job.average)
            if start:
                self.average.load(start.average)
        self.optimizer = accelerator.prepare(optimizer)
        self.task = task if self.sharded else accelerator.prepare(task)
        self.plain = accelerator.unwrap_model(self.task)

    def _resume(self, start: Any) -> None:
        """Take up a checkpoint's place in the data, its step, its best, and fp16's scale of gradients."""
        self.feed.loader.load_state_dict(start.facts["loader"])
        if self.accelerator.scaler is not None and start.facts.get("scaler"):
            self.accelerator.scaler.load_state_dict(start.facts["scaler"])
        self.step, self.best, self.stale = start.step, start.facts["best"], start.facts["stale"]
        self.stopped, self.summary = start.facts["stopped"], dict(start.facts["summary"])

    def work(self) -> None:
        """Train to the job's last step, or until nothing got better for as long as the job says."""
        import torch

        job, accelerator, meter = self.job, self.accelerator, self.meter
        main = accelerator.is_main_process
        if main:
            self.log.open(self.step, workers=accelerator.num_processes)
        batches = self.feed.stream()
        while self.step < job.steps and not self.stopped:
            meter.begin()
            batch = next(batches)
            meter.data()
            if main and meter.flops is None:
                task = self.feed.task_of(batch)
                self.log.note(self.step, meter.know(self.spec, batch, job.precision, task))
            # The randomness of a step depends on the step alone, so there is no state to save and restore.
            torch.manual_seed(job.seed * 1_000_003 + self.step * 1_009 + accelerator.process_index)
            facts = self._update(batch)
            self.step += 1
            if main:
                facts |= meter.end(samples=self.feed.samples, left=job.steps - self.step)
                if len(self.feed.tasks) > 1:
                    facts[f"loss_{self.feed.tasks[self.feed.task_of(batch)]}"] = facts["loss"]
                if job.skip_bad:
                    facts["skipped"] = self.feed.loader.skipped.total()
                self.log.record({"step": self.step, **facts})
                meter.publish({"step": self.step, **facts})
            self.summary["loss"] = facts["loss"]
            due = job.checkpoint_every is not None and self.step % job.checkpoint_every == 0
            if self._judge() or due or self.stopped or self.step == job.steps:
                self._save()
        if main:
            self.log.close()

    def _update(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """One step of the optimizer; what the log says of it."""
        job, accelerator = self.job, self.accelerator
        rate = schedule(
            job.schedule,
            self.step,
            steps=job.steps,
            warmup=job.num_warmup_steps,
            cooldown=job.num_cooldown_steps,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = job.learning_rate * rate * group["rate"]
        self.task.train()
        self.optimizer.zero_grad(set_to_none=True)
        total: Any = 0.0
        for i, (part, share) in enumerate(self.feed.passes(batch)):
            with self._keeping_gradients() if i + 1 < job.accumulate else nullcontext():
                with accelerator.autocast():
                    loss = self.task(part)["loss"] * share
                if not loss.isfinite():
                    raise FloatingPointError(
                        f"the loss is {loss.item()} at step {self.step}; lower learning_rate or set "
                        "precision: fp32"
                    )
                accelerator.backward(loss)
            total = total + loss.detach()
        norm = self._clip()
        self.optimizer.step()
        if self.average:
            self.average.update(self.plain, self.step + 1)
        return {
            "loss": float(accelerator.reduce(total, "mean")),
            "learning_rate": job.learning_rate * rate,
            "gradient_norm": norm if math.isfinite(norm) else None,  # fp16: the scaler skips the step
        }

    def _keeping_gradients(self) -> AbstractContextManager[None]:
        """Gradients travel between workers with the last pass of a step only."""
        if not self.sharded:
            keeping: AbstractContextManager[None] = self.accelerator.no_sync(self.task)
            return keeping
        return _without_reduction(self.task)

    def _clip(self) -> float:
        """Bring the norm of the gradient below the job's limit; what it was."""
        limit = math.inf if self.job.gradient_clip is None else self.job.gradient_clip
        norm = self.accelerator.clip_grad_norm_(self.task.parameters(), limit)
        return float(norm.full_tensor() if self.sharded else norm)

    def _judge(self) -> bool:
        """Measure the held-out split when it is time to; whether this is the best there was."""
        from jobs.evaluation import better, measure
        from jobs.parallel import let_go

        job, check = self.job, self.job.validation
        due = self.step == job.steps or (check.every is not None and self.step % check.every == 0)
        if self.feed.held_out is None or not due:
            return False
        with ExitStack() as averaged:
            if self.average:
                averaged.enter_context(self.average.inside(self.plain))
            spare = next(iter(self.feed.spares.values())) if self.sharded else None
            metrics = measure(self.accelerator, self.plain, self.feed.held_out, spare=spare)
            let_go(self.plain)
        self.summary["metrics"] = {f"{check.split}_{name}": value for name, value in metrics.items()}
        if self.accelerator.is_main_process:
            self.log.record({"step": self.step, **self.summary["metrics"]})
        found = better(metrics, self.best, metric=check.metric)
        if found is None:
            self.stale += 1
            self.stopped = check.patience is not None and self.stale >= check.patience
            return False
        self.best, self.stale = {"step": self.step, **found}, 0
        return True

    def _save(self) -> None:
        from jobs import checkpoint
        from jobs.parallel import gather

        accelerator = self.accelerator
        how: dict[str, Any] = {}
        if self.sharded:
            how = {
                "rank": accelerator.process_index,
                "world_size": accelerator.num_processes,
                "gather": partial(gather, device=accelerator.device),
            }
        if self.sharded or accelerator.is_main_process:
            facts = {
                "spec": self.spec, "job": self.job.resolved(), "job_digest": self.job.digest(),
                "snapshots": self.config["snapshots"], "manifests": self.config["manifests"],
                "loader": self.feed.loader.state_dict(),
                "scaler": scaler.state_dict() if (scaler := accelerator.scaler) is not None else None,
                "summary": self.summary, "best": self.best, "stale": self.stale, "stopped": self.stopped,
            }  # fmt: skip
            state = checkpoint.Checkpoint(
                step=self.step,
                model=self.plain.state_dict(),
                optimizer=self.optimizer.state_dict(),
                average=self.average.weights if self.average else {},
                facts=facts,
            )
            checkpoint.write(self.storage, state, **how)
        if accelerator.is_main_process and self.job.keep is not None:
            best = self.best["step"] if self.best else None
            checkpoint.prune(self.storage, self.job.keep, besides=best)
        accelerator.wait_for_everyone()


@contextmanager
def _without_reduction(task: Any) -> Any:
    task.set_requires_gradient_sync(False)
    try:
        yield
    finally:
        task.set_requires_gradient_sync(True)
