"""Workers that are processes, for decoders that hold the GIL. Tensors come back through shared memory."""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch.utils.data import DataLoader, IterableDataset

from pipelines.loading.buffers import Batch

Made = tuple[Batch, Mapping[str, int]]  # a batch, and what was skipped for it


class _Share(IterableDataset[Made]):
    """In each process, every so-manieth batch, made by a loader of its own."""

    def __init__(self, make: Callable[[], Any], start: int, end: int | None) -> None:
        self.make, self.start, self.end = make, start, end

    def __iter__(self) -> Iterator[Made]:
        loader = self.make()
        for batch in loader.run(self.start, self.end):
            yield batch, dict(loader.skipped)
            loader.skipped.clear()


def in_processes(
    make: Callable[[], Any], start: int, end: int | None, *, workers: int, pin_memory: bool, ahead: int
) -> Iterator[Made]:
    """Batches in order. `make` builds the loader in the process; it is pickled, and so is nothing else.

    There are no more processes than cores: they would only wait for each other.
    """
    workers = min(workers, len(os.sched_getaffinity(0)))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["torch", "pipelines.loading"]
    )  # once, not in every process of every epoch
    yield from DataLoader(
        _Share(make, start, end), batch_size=None, num_workers=workers, prefetch_factor=ahead,
        multiprocessing_context=context, pin_memory=pin_memory,
    )  # fmt: skip
