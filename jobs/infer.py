"""Run an inference job: a trained model over every shard that has no predictions yet."""

from collections.abc import Mapping
from typing import Any

from jobs.cluster import cluster
from jobs.config.schema import InferJob
from jobs.progress import Progress


def run(job: InferJob) -> int:
    """Exit code 0; predictions lie in the job's output, a Parquet part a shard."""
    snapshot, new = infer_dataset(job)
    rows = sum(part.rows for part in snapshot.parts)
    errors = sum(part.errors for part in snapshot.parts)
    if not new:
        print(f"{job.output}: nothing to do; snapshot {snapshot.number} has all {rows} predictions")
        return 0
    print(
        f"{job.output}: snapshot {snapshot.number}, {rows} predictions in {len(snapshot.parts)} parts, "
        f"{new} of them new, {errors} samples could not be read"
    )
    return 0


def infer_dataset(job: InferJob) -> Any:
    """Run the job's graph: a pipelines.graphs.predict.Predictions, and how many shards were new."""
    from jobs import checkpoint
    from pipelines.jsontext import digest
    from pipelines.shards.dataset import Dataset
    from pipelines.shards.storage import open_storage

    dataset = Dataset.open(job.dataset)
    run = open_storage(job.checkpoint)
    url = run.url  # absolute: a worker's current folder is not the user's
    last = checkpoint.best(run) if job.pick == "best" else checkpoint.newest(run, optimizer=False)
    if last is None:
        raise FileNotFoundError(f"no checkpoint at {job.checkpoint}: run a train job with this output first")
    if last.facts["spec"]["modality"] != dataset.manifest.modality:
        raise ValueError(
            f"{job.checkpoint} was trained on {last.facts['spec']['modality']} data, "
            f"{job.dataset} holds {dataset.manifest.modality} data"
        )
    step = last.step
    progress = Progress("infer")
    from pipelines.graphs.predict import predict

    try:
        return predict(
            dataset,
            job.output,
            model=digest([last.digest, job.split, job.weights])[:32],
            make=lambda: Predictor(url, step, averaged=job.weights == "averaged"),
            split=job.split,
            batch_size=job.batch_size,
            workers=job.workers,
            report=progress,
            connect=cluster,
        )
    finally:
        progress.close()


class Predictor:
    """A checkpoint's model, ready to predict; with the average of its weights where there is one."""

    def __init__(self, url: str, step: int, *, averaged: bool = True) -> None:
        import torch

        from jobs import checkpoint
        from jobs.wiring import build_task
        from pipelines.shards.storage import open_storage

        found = checkpoint.read(open_storage(url), step, optimizer=False)
        self.spec = found.facts["spec"]
        self.options: Mapping[str, Any] = self.spec["data"]
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.task = build_task(self.spec)
        self.task.load_state_dict({**found.model, **(found.average if averaged else {})})
        self.task.to(self.device).eval()

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[Any]]:
        import torch

        tensors = {name: value.to(self.device) for name, value in batch.items() if name != "key"}
        with torch.no_grad():
            outputs = self.task.predict(tensors)
        columns = {name: value.cpu().tolist() for name, value in outputs.items()}
        if self.spec["task"] == "classification":
            columns["class"] = [self.spec["classes"][i] for i in columns["label"]]
        return columns
