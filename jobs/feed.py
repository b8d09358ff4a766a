"""What a training process is fed: the batches of its share, and the passes that a step is divided into."""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from jobs.config.schema import TrainJob
from pipelines.loading import Loader, Part
from pipelines.shards.dataset import Dataset

Tensors = Mapping[str, Tensor]


class Feed:
    """The loaders of a job: `loader` of the training split, `held_out`, None where that split is empty."""

    def __init__(
        self, job: TrainJob, spec: Mapping[str, Any], snapshots: list[int], accelerator: Any
    ) -> None:
        self.job, self.spec, self.accelerator = job, spec, accelerator
        self.uneven = job.skip_bad or job.tail  # batches may have fewer samples than they should
        self.samples = job.batch_size  # of the newest batch, of all workers
        self.spares: dict[int, dict[str, Tensor]] = {}  # a sample of each task, for whoever has none
        places = [job.dataset, *(part.dataset for part in job.more)]
        opened = [Dataset.open(place, number) for place, number in zip(places, snapshots, strict=True)]
        self._every: dict[str, Any] = {
            "batch_size": job.batch_size // accelerator.num_processes, "rank": accelerator.process_index,
            "world_size": accelerator.num_processes, "num_workers": job.loader_workers,
            "skip_bad": job.skip_bad,
        }  # fmt: skip
        more = spec.get("more", [None] * len(job.more))  # specs of other tasks
        self.tasks = [spec["task"], *(other["task"] for other in more if other)]
        self.loader = self._learning(opened, more)
        split = job.validation.split
        there = any(shard.split == split for shard in opened[0].manifest.shards)
        how = {"split": split, "shuffle": False, **_of_task(spec), **self._every}
        self.held_out = Loader(opened[0], **how) if there else None

    def _learning(self, datasets: list[Dataset], more: list[Mapping[str, Any] | None]) -> Loader:
        """Of the training split: of one dataset, or of several; `source` then is the number of their task."""
        job, own = self.job, _of_task(self.spec)
        learn: dict[str, Any] = {
            "split": "train",
            "augment": True if job.augment is None else list(job.augment),
        }
        mine: dict[str, Any] = {
            **self._every, "seed": job.seed, "blend": job.blend or None, "open_shards": job.open_shards,
        }  # fmt: skip
        if not job.more:
            return Loader(datasets[0], tail=job.output if job.tail else None, **own, **learn, **mine)
        weights = [job.weight, *(part.weight for part in job.more)]
        numbers = iter(range(1, len(self.tasks)))
        named = [0, *(next(numbers) if other else 0 for other in more)]
        options = [own, *(_of_task(other) if other else own for other in more)]
        parts = [
            Part(dataset=d, weight=w, name=str(n), **how, **learn)
            for d, w, n, how in zip(datasets, weights, named, options, strict=True)
        ]
        # Samples of several tasks have other fields, so a batch is of one of them.
        return Loader(parts, mix="batches" if any(more) else "samples", **mine)

    def stream(self) -> Iterator[Mapping[str, Any]]:
        """Batches without end. ValueError when a dataset that is followed has grown by a class."""
        known = self.spec["classes"]
        for batch in self.loader.stream():
            found = list(self.loader.dataset.manifest.classes)
            if self.spec["task"] == "classification" and found != known:
                raise ValueError(
                    f"{self.job.dataset} now has the classes {found}, the run began with {known}; start "
                    "another one, with an output of its own"
                )
            yield batch

    def passes(self, batch: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], float]]:
        """The batch on the device in `accumulate` passes, and what share of the step's loss each has.

        Shares are such that the mean over workers of the weighted sums of losses is the mean over samples.
        A worker that has no sample for a pass gets one that counts nothing: the others wait for it.
        """
        device, passes = self.accelerator.device, self.job.accumulate
        workers = self.accelerator.num_processes
        tensors = {name: value for name, value in batch.items() if isinstance(value, Tensor)}
        number = self.task_of(batch)
        task = {"task": number} if len(self.tasks) > 1 else {}
        size, mine = self.job.batch_size // workers // passes, len(batch["key"])
        self.samples = self._of_all(mine) if self.uneven else self.job.batch_size
        if not self.samples:
            raise ValueError("every sample of a step was left out as bad; see `rayloom check`")
        for i in range(passes):
            rows = slice(i * size, (i + 1) * size)
            there = len(range(*rows.indices(mine)))
            part = {name: value[rows].to(device) for name, value in tensors.items()}
            if there and number not in self.spares:
                self.spares[number] = {name: value[:1].clone() for name, value in part.items()}
            blank = self.spares.get(number) or {
                name: v.new_zeros((1, *v.shape[1:])) for name, v in part.items()
            }
            yield (part if there else blank) | task, there * workers / self.samples

    def task_of(self, batch: Mapping[str, Any]) -> int:
        """The number of the task that a batch is of, in `tasks`."""
        return int(batch["source"][0]) if len(self.tasks) > 1 and len(batch["source"]) else 0

    def _of_all(self, mine: int) -> int:
        import torch

        rows = torch.tensor(mine, device=self.accelerator.device)
        return int(self.accelerator.reduce(rows, "sum"))


def _of_task(spec: Mapping[str, Any]) -> dict[str, Any]:
    """What a loader must give for a task."""
    return {
        "options": spec["data"],
        "targets": spec["targets"],
        "labelled": spec["task"] == "classification",
    }
