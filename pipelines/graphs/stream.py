"""The loader's batches made by CPU workers of a Ray cluster, for trainers on other nodes."""

from collections.abc import Iterator, Mapping
from typing import Any

import ray
from ray.data import ActorPoolStrategy

from pipelines.loading import Batch, Loader


def stream(
    loader: Loader, *, epoch: int = 0, start: int = 0, workers: int = 1, num_cpus: float = 1
) -> ray.data.Dataset:
    """One row a batch of the loader's rank, `start` and after of an epoch; `batches` iterates them in order.

    A row names its batch by number, and any worker makes it: the samples are those of the loader, whoever
    makes them and how often. `loader` travels to the workers by its arguments; its dataset must be on
    storage that they reach.
    """
    numbers = [{"id": number} for number in range(start, len(loader))]
    wanted = ray.data.from_items(numbers, override_num_blocks=max(1, len(numbers)))

    class Maker:
        def __init__(self) -> None:
            self.loader = loader

        def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
            return _row(int(row["id"]), self.loader.batch(epoch, int(row["id"])))

    maker: Any = Maker  # a class is fine, though its type does not say so
    return wanted.map(maker, compute=ActorPoolStrategy(size=workers), num_cpus=num_cpus)


def batches(rows: ray.data.Dataset) -> Iterator[Batch]:
    """Tensors in the loader's order. Ray must have been told to keep order: see `ordered`."""
    import torch

    before = None
    for row in rows.iter_rows():
        number = row.pop("number")
        if before is not None and number != before + 1:
            raise RuntimeError(
                f"batch {number} came after {before}: Ray gives batches out of order unless "
                "DataContext.execution_options.preserve_order is set; call ordered() before stream()"
            )
        before = number
        yield {n: list(v) if n in ("key", "source") else torch.from_numpy(v.copy()) for n, v in row.items()}


def ordered() -> None:
    """Have Ray keep the order of rows in this driver; without it whichever batch is ready comes first."""
    ray.data.DataContext.get_current().execution_options.preserve_order = True


def _row(number: int, batch: Batch) -> dict[str, Any]:
    arrays = {name: value if isinstance(value, list) else value.numpy() for name, value in batch.items()}
    return {"number": number, **arrays}
