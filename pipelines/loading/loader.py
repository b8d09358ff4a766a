"""Shards to batches of tensors: an order that resumes anywhere, verified reads, threads that decode."""

import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import IterableDataset, get_worker_info

from modalities.base import BadSample
from pipelines.loading.augment import Step
from pipelines.loading.buffers import Assembly, Batch, Pool
from pipelines.loading.cache import CACHE, CACHE_BYTES
from pipelines.loading.order import OPEN_SHARDS
from pipelines.loading.permutation import Numbers
from pipelines.loading.reading import PREFETCH_BYTES
from pipelines.loading.schedule import Schedule
from pipelines.loading.source import Part, Source
from pipelines.shards.dataset import Corrupt, Dataset

AHEAD = 2  # batches under way, besides those that every thread works on
DECODED_BYTES = 2**30  # of batches under way
PLANNED = 1024  # samples of this rank located at a time: numpy is slow on few

Place = tuple[int, int, int, int]  # part, epoch of that part, shard, number in it


class Loader(IterableDataset[Batch]):
    """Batches of one rank. Iterating gives one epoch; `stream` goes on for ever, across epochs.

    Args:
        dataset: a URL, an open Dataset, or the Parts of a weighted mixture.
        batch_size: samples of one batch of this rank.
        split: only this split; None takes all.
        shuffle: False keeps the order of the manifest.
        augment: True gives `prepare` a random generator; a list of steps (docs/guide/loading.md) changes the
            decoded sample instead; False gives every sample the same, central view.
        options: keyword arguments of the modality's `prepare`.
        prepare: False leaves the decoded (and augmented) arrays as they are.
        labelled: leave out samples without a label.
        targets: metadata fields to add as float32 tensors, "meta.gsd" under its whole name.
        num_workers: threads that read and decode; native decoders release the GIL.
        drop_last: leave out an epoch's last batch when it is not full on every rank.
        skip_bad: leave out samples that are damaged or do not decode, and count them in `skipped`.
        open_shards: shards that are mixed with each other at a time; None for all.
        mix: of a mixture: "batches" takes each global batch from one part, "samples" each sample.
        pin_memory: batches in page-locked memory, for copies to a GPU.
        cache: folder for shards of an object store, at most `cache_bytes`; None reads each sample by range.
    """

    def __init__(
        self,
        dataset: str | Dataset | Sequence[Part],
        *,
        batch_size: int,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        num_workers: int = 0,
        split: str | None = None,
        shuffle: bool = True,
        augment: bool | Sequence[Step] = False,
        labelled: bool = False,
        options: Mapping[str, Any] | None = None,
        prepare: bool = True,
        targets: Sequence[str] = (),
        drop_last: bool = False,
        skip_bad: bool = False,
        open_shards: int | None = OPEN_SHARDS,
        mix: str = "batches",
        pin_memory: bool = False,
        cache: str | Path | None = CACHE,
        cache_bytes: int = CACHE_BYTES,
        prefetch_bytes: int = PREFETCH_BYTES,
    ) -> None:
        if not 0 <= rank < world_size:
            raise ValueError(f"rank must be in [0, world_size), got rank={rank}, world_size={world_size}")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if mix not in ("batches", "samples"):
            raise ValueError(f"mix must be 'batches' or 'samples', got {mix!r}")
        self.batch_size, self.seed, self.rank, self.world_size = batch_size, seed, rank, world_size
        self.num_workers, self.drop_last, self.skip_bad = num_workers, drop_last, skip_bad
        if isinstance(dataset, str | Dataset):
            chosen: dict[str, Any] = {
                "split": split,
                "labelled": labelled,
                "augment": augment,
                "prepare": prepare,
            }
            parts = [Part(dataset=dataset, options=dict(options or {}), targets=tuple(targets), **chosen)]
        else:
            parts = list(dataset)
        folder = None if cache is None else Path(cache).expanduser()
        self.sources = [
            Source(part, seed=seed, shuffle=shuffle, open_shards=open_shards, cache=folder,
                   cache_bytes=cache_bytes, prefetch_bytes=prefetch_bytes)
            for part in parts
        ]  # fmt: skip
        self.mixed = not isinstance(dataset, str | Dataset)
        names = "/".join(f"{s.dataset.manifest.digest}:{s.part.split}" for s in self.sources)
        self._schedule = Schedule([p.weight for p in parts], name=f"{names}/{seed}") if self.mixed else None
        self._turn = batch_size * world_size if self.mixed and mix == "batches" else 1
        self.epoch, self._position = 0, 0
        self._pool = Pool(pinned=pin_memory)
        self.skipped: Counter[str] = Counter()
        self.waited_s = 0.0  # what whoever iterates has spent waiting for batches
        self._last: Batch | None = None

    @property
    def dataset(self) -> Dataset:
        """The snapshot read, of the first part in a mixture."""
        return self.sources[0].dataset

    @property
    def num_samples(self) -> int:
        """Samples of one epoch, of all ranks together; of a mixture, as many as its parts have."""
        total = sum(source.num_samples for source in self.sources)
        return -(-total // self._turn) * self._turn

    def __len__(self) -> int:
        """Batches of one epoch; the same for every rank."""
        whole, rest = divmod(self.num_samples, self._step)
        return whole + (rest > 0 and not self.drop_last)

    @property
    def _step(self) -> int:
        """Samples of one global batch."""
        return self.batch_size * self.world_size

    def state_dict(self) -> dict[str, Any]:
        """Where the next batch starts: an epoch, and a number of samples into it, of all ranks together."""
        state = {"epoch": self.epoch, "position": self._position, "seed": self.seed}
        digests = [source.dataset.manifest.digest[:16] for source in self.sources[:16]]
        return state | {"manifests": digests, "turn": self._turn}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where a loader of any world size was."""
        if state["seed"] != self.seed:
            raise ValueError(f"the state is of seed {state['seed']}, this loader has seed {self.seed}")
        mine = self.state_dict()
        for name, what in (("manifests", "snapshots"), ("turn", "samples in a global batch of one part")):
            if state.get(name, mine[name]) != mine[name]:
                raise ValueError(f"the state is of {what} {state[name]}, this loader has {mine[name]}")
        if not 0 <= state["position"] < self.num_samples:
            raise ValueError(f"position {state['position']} is not in an epoch of {self.num_samples} samples")
        self.epoch, self._position = state["epoch"], state["position"]

    def __iter__(self) -> Iterator[Batch]:
        """The rest of this epoch: as many batches for every rank; in the last one it may have no rows."""
        end = self.num_samples - (self.num_samples % self._step if self.drop_last else 0)
        first = self.epoch * self.num_samples
        for batch in self._timed(self._run(first + self._position, first + end)):
            self._position = min(self._position + self._step, end)
            yield batch
        self.epoch, self._position = self.epoch + 1, 0

    def stream(self) -> Iterator[Batch]:
        """Full batches without end: each epoch follows the one before, in the same batch where they meet."""
        for batch in self._timed(self._run(self.epoch * self.num_samples + self._position, None)):
            epoch, self._position = divmod(self._position + self._step, self.num_samples)
            self.epoch += epoch
            yield batch

    def batch(self, epoch: int, number: int) -> Batch:
        """One batch of this rank by its number in an epoch, whatever was read before."""
        if not 0 <= number < len(self):
            raise IndexError(f"an epoch has {len(self)} batches, got number {number}")
        first = epoch * self.num_samples
        start = first + number * self._step
        ((places, _),) = self._plan(start, min(start + self._step, first + self.num_samples))
        return self._finish(self._fill(Assembly(len(places), self._pool), places, range(len(places))))

    def _locate(self, positions: Numbers) -> list[Place]:
        """Where the samples at these positions of the endless sequence are."""
        if self._schedule is None:
            whose, counted = np.zeros_like(positions), positions
        else:
            turn, within = np.divmod(positions, self._turn)
            whose, before = self._schedule.locate(turn)
            counted = before * self._turn + within
        found: list[Place] = [(0, 0, 0, 0)] * len(positions)
        for part in np.unique(whose).tolist():
            source = self.sources[part]
            mine = np.flatnonzero(whose == part)
            epochs, places = np.divmod(counted[mine], source.num_samples)
            for epoch in np.unique(epochs).tolist():
                here = epochs == epoch
                shards, numbers = source.order(epoch).locate(places[here])
                source.prefetch(epoch, int(places[here][0]))
                rows = zip(mine[here].tolist(), shards.tolist(), numbers.tolist(), strict=True)
                for at, shard, number in rows:
                    found[at] = part, epoch, shard, number
        return found

    def _plan(self, start: int, end: int | None) -> Iterator[tuple[list[Place], int]]:
        """This rank's places of each global batch of the endless sequence, and where that begins."""
        span = -(-PLANNED // self.batch_size) * self._step
        while end is None or start < end:
            stop = start + span if end is None else min(start + span, end)
            places = self._locate(np.arange(start + self.rank, stop, self.world_size))
            for i in range(-(-(stop - start) // self._step)):
                yield places[i * self.batch_size : (i + 1) * self.batch_size], start + i * self._step
            start = stop

    def _run(self, start: int, end: int | None) -> Iterator[Batch]:
        """Finished batches in order, read ahead by threads."""
        plan = self._plan(start, end)
        if info := get_worker_info():  # a process of torch's DataLoader takes every so-manieth batch
            plan = (p for i, p in enumerate(plan) if i % info.num_workers == info.id)
        if self.num_workers == 0:
            for places, _ in plan:
                yield self._finish(self._fill(Assembly(len(places), self._pool), places, range(len(places))))
            return
        with ThreadPoolExecutor(self.num_workers, thread_name_prefix="loader") as threads:
            ahead: deque[list[Future[Any]]] = deque()
            depth = AHEAD + 1
            try:
                for places, _ in plan:
                    assembly = Assembly(len(places), self._pool)
                    shares = [
                        range(i, len(places), self.num_workers)
                        for i in range(min(self.num_workers, len(places)))
                    ]
                    ahead.append(
                        [threads.submit(self._fill, assembly, places, s) for s in shares or [range(0)]]
                    )
                    if len(ahead) > depth:
                        batch = self._gather(ahead.popleft())
                        depth = max(1, min(AHEAD + 1, DECODED_BYTES // max(1, nbytes(batch))))
                        yield batch
                while ahead:
                    yield self._gather(ahead.popleft())
            finally:
                for shares_ in ahead:
                    for share in shares_:
                        share.cancel()

    def _gather(self, shares: list[Future[Any]]) -> Batch:
        filled = [share.result() for share in shares]
        return self._finish((filled[0][0], [error for _, errors in filled for error in errors]))

    def _timed(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        while True:
            began = time.perf_counter()
            batch = next(batches, None)
            self.waited_s += time.perf_counter() - began
            if batch is None:
                return
            yield batch

    def _fill(self, assembly: Assembly, places: list[Place], share: range) -> tuple[Assembly, list[str]]:
        """Make the samples `share` of a batch; the reasons of those that were skipped."""
        errors = []
        for at in share:
            part, epoch, shard, number = places[at]
            source = self.sources[part]
            try:
                sample = source.make(epoch, shard, number, assembly=assembly, at=at)
            except (Corrupt, BadSample) as bad:
                if not self.skip_bad:
                    raise
                errors.append(bad.reason if isinstance(bad, BadSample) else "damaged")
                continue
            assembly.put(at, {**sample, "source": source.name} if self.mixed else sample)
        return assembly, errors

    def _finish(self, filled: tuple[Assembly, list[str]]) -> Batch:
        assembly, errors = filled
        self.skipped.update(errors)
        batch = assembly.finish()
        if not batch.get("key"):
            return {name: value[:0] for name, value in self._example().items()}
        self._last = {name: value[:1] for name, value in batch.items()}
        return batch

    def _example(self) -> Batch:
        """A batch of this loader, for the fields of one without rows."""
        if self._last is None:
            for at in range(self.num_samples):
                places = self._locate(np.array([at]))
                batch = self._fill(Assembly(1, self._pool), places, range(1))[0].finish()
                if batch.get("key"):
                    self._last = batch
                    break
        return self._last or {}


def nbytes(batch: Batch) -> int:
    """Bytes of a batch's tensors."""
    return sum(value.nbytes for value in batch.values() if hasattr(value, "nbytes"))
