"""Shards to batches of tensors: verified reads, threads that decode, an order that resumes anywhere."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import modalities
from modalities.base import BadSample
from pipelines.loading.order import epoch_order, sample_rng
from pipelines.shards.dataset import Dataset
from pipelines.shards.index import Row
from pipelines.shards.manifest import Shard

Batch = dict[str, Any]  # field -> tensor with the batch first; "key": list of str
PREFETCH = 2  # batches under way for each thread
UNLABELLED = -1


class Loader:
    """Batches of one rank. Iterating gives one epoch; `stream` goes on for ever, across epochs.

    Args:
        dataset: a URL, or an open Dataset.
        batch_size: samples of one batch of this rank.
        split: only this split; None takes all.
        shuffle: False keeps the order of the manifest.
        augment: give `prepare` a random generator; False gives every sample the same, central view.
        options: keyword arguments of the modality's `prepare`.
        labelled: leave out samples without a label.
        targets: metadata fields to add as float32 tensors, "meta.gsd" under its whole name.
        num_workers: threads that read and decode; native decoders release the GIL.
        drop_last: leave out an epoch's last batch when it is not full on every rank.
    """

    def __init__(
        self,
        dataset: str | Dataset,
        *,
        batch_size: int,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        num_workers: int = 0,
        split: str | None = None,
        shuffle: bool = True,
        augment: bool = False,
        labelled: bool = False,
        options: Mapping[str, Any] | None = None,
        targets: Sequence[str] = (),
        drop_last: bool = False,
    ) -> None:
        if not 0 <= rank < world_size:
            raise ValueError(f"rank must be in [0, world_size), got rank={rank}, world_size={world_size}")
        self.dataset = Dataset.open(dataset) if isinstance(dataset, str) else dataset
        self.modality = modalities.get(self.dataset.manifest.modality)
        self.batch_size, self.seed, self.rank, self.world_size = batch_size, seed, rank, world_size
        self.num_workers, self.shuffle, self.augment, self.drop_last = (
            num_workers,
            shuffle,
            augment,
            drop_last,
        )
        self.options, self.targets = dict(options or {}), tuple(targets)
        self.epoch, self._position = 0, 0
        shards = [s for s in self.dataset.manifest.shards if split is None or s.split == split]
        rows = ((s, row) for s in shards for row in self.dataset.rows(s))
        self._samples: list[tuple[Shard, Row]] = [
            (s, row) for s, row in rows if row.label is not None or not labelled
        ]
        if not self._samples:
            there = sorted({s.split for s in self.dataset.manifest.shards})
            which = "labelled samples" if labelled else "samples"
            raise ValueError(f"no {which} in split {split!r} of {self.dataset.storage.url}; it has {there}")

    @property
    def num_samples(self) -> int:
        """Samples of one epoch, of all ranks together."""
        return len(self._samples)

    def __len__(self) -> int:
        """Batches of one epoch; the same for every rank."""
        whole, rest = divmod(self.num_samples, self.batch_size * self.world_size)
        return whole + (rest > 0 and not self.drop_last)

    def state_dict(self) -> dict[str, int]:
        """Where the next batch starts: an epoch, and a number of samples into it, of all ranks together."""
        return {"epoch": self.epoch, "position": self._position, "seed": self.seed}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on where a loader of any world size was."""
        if state["seed"] != self.seed:
            raise ValueError(f"the state is of seed {state['seed']}, this loader has seed {self.seed}")
        if not 0 <= state["position"] < self.num_samples:
            raise ValueError(f"position {state['position']} is not in an epoch of {self.num_samples} samples")
        self.epoch, self._position = state["epoch"], state["position"]

    def __iter__(self) -> Iterator[Batch]:
        """The rest of this epoch. Ranks may get fewer samples, or none, in the last batch."""
        step = self.batch_size * self.world_size
        end = self.num_samples - (self.num_samples % step if self.drop_last else 0)
        starts = range(self._position, end, step)
        order = self._order(self.epoch)
        places = ([(self.epoch, int(i)) for i in order[a : min(a + step, end)]] for a in starts)
        for start, batch in zip(starts, self._load(places), strict=True):
            self._position = start + step
            if batch:
                yield batch
        self.epoch, self._position = self.epoch + 1, 0

    def stream(self) -> Iterator[Batch]:
        """Full batches without end: each epoch follows the one before, in the same batch where they meet."""
        step = self.batch_size * self.world_size

        def places() -> Iterator[list[tuple[int, int]]]:
            epoch, position = self.epoch, self._position
            order = self._order(epoch)
            while True:
                batch: list[tuple[int, int]] = []
                while len(batch) < step:
                    part = order[position : position + step - len(batch)]
                    batch += [(epoch, int(i)) for i in part]
                    position += len(part)
                    if position == self.num_samples:
                        epoch, position = epoch + 1, 0
                        order = self._order(epoch)
                yield batch

        for batch in self._load(places()):
            done = self._position + step
            self.epoch, self._position = self.epoch + done // self.num_samples, done % self.num_samples
            yield batch

    def _order(self, epoch: int) -> NDArray[np.int64]:
        if not self.shuffle:
            return np.arange(self.num_samples)
        return epoch_order(self.dataset.manifest.digest, self.seed, epoch, self.num_samples)

    def _load(self, places: Iterator[list[tuple[int, int]]]) -> Iterator[Batch]:
        """Batches of this rank for global batches of (epoch, sample), in order, read ahead by threads."""
        mine = (batch[self.rank :: self.world_size] for batch in places)
        if self.num_workers == 0:
            for batch in mine:
                yield collate([self._sample(*place) for place in batch])
            return
        with ThreadPoolExecutor(self.num_workers, thread_name_prefix="loader") as pool:
            ahead: deque[list[Future[Batch]]] = deque()
            try:
                for batch in mine:
                    ahead.append([pool.submit(self._sample, *place) for place in batch])
                    if len(ahead) > max(1, PREFETCH * self.num_workers // max(1, len(batch)) + 1):
                        yield collate([future.result() for future in ahead.popleft()])
                while ahead:
                    yield collate([future.result() for future in ahead.popleft()])
            finally:
                for batch_ in ahead:
                    for future in batch_:
                        future.cancel()

    def _sample(self, epoch: int, number: int) -> Batch:
        shard, row = self._samples[number]
        rng = sample_rng(self.seed, epoch, number) if self.augment else None
        return load_sample(self.dataset, shard, row, rng=rng, options=self.options, targets=self.targets)


def load_sample(
    dataset: Dataset,
    shard: Shard,
    row: Row,
    *,
    rng: np.random.Generator | None,
    options: Mapping[str, Any],
    targets: Sequence[str] = (),
) -> Batch:
    """Read, verify, decode and prepare one sample: arrays by field, with "key" and "label"."""
    modality = modalities.get(dataset.manifest.modality)
    try:
        arrays = modality.look(dataset.files(shard, row))
        sample: Batch = dict(modality.prepare(arrays, rng=rng, **options))
    except BadSample as bad:
        raise BadSample(bad.reason, f"sample {row.key} in {shard.key}: {bad.detail}") from bad
    for name in targets:
        sample[name] = np.float32(_lookup(row, name))
    sample["key"] = row.key
    number = UNLABELLED if row.label is None else dataset.class_numbers[row.label]
    sample["label"] = np.int64(number)
    return sample


def _lookup(row: Row, path: str) -> float:
    value: Any = {"meta": row.meta, "quality": row.quality}
    for part in path.split("."):
        if not isinstance(value, Mapping) or part not in value:
            raise LookupError(f"sample {row.key} has no {path!r}; there are {sorted(row.meta)}")
        value = value[part]
    return float(value)


def collate(samples: Sequence[Batch]) -> Batch:
    """Stack field by field. ValueError names the shapes that do not fit together."""
    if not samples:
        return {}
    batch: Batch = {}
    for name in samples[0]:
        values = [sample[name] for sample in samples]
        if name == "key":
            batch[name] = values
            continue
        if len(shapes := {np.shape(value) for value in values}) > 1:
            raise ValueError(
                f"{name}: samples of one batch have shapes {sorted(shapes)}; set a fixed size in data"
            )
        batch[name] = torch.from_numpy(np.stack(values))
    return batch
