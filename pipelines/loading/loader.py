"""Shards to batches of tensors: an order that resumes anywhere, verified reads, threads that decode."""

import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import IterableDataset, get_worker_info

from modalities.base import BadSample
from pipelines.loading.augment import Step
from pipelines.loading.augment.blend import blend as blended
from pipelines.loading.augment.blend import check_alphas
from pipelines.loading.buffers import TEXTS, Assembly, Batch, Pool
from pipelines.loading.cache import CACHE, CACHE_BYTES
from pipelines.loading.lots import Piece, keys_and_files
from pipelines.loading.order import OPEN_SHARDS, sample_rng
from pipelines.loading.plan import Plan
from pipelines.loading.processes import in_processes
from pipelines.loading.reading import PREFETCH_BYTES, Contents
from pipelines.loading.schedule import Schedule
from pipelines.loading.source import Part, Source
from pipelines.loading.tail import Tail
from pipelines.shards.dataset import Corrupt, Dataset

FETCHED = 16  # samples read and looked at before they are decoded
RAW = 4096  # samples located at a time where nothing is decoded: numpy is slow on few
AHEAD = 2  # batches under way, besides those that every thread works on
DECODED_BYTES = 2**30  # of batches under way
HOLDS_GIL = {"laz"}  # found by measuring: two threads decode no more of these than one


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
        processes: the workers are processes instead of threads. None: where the first shard holds files whose
            decoder keeps the GIL (HOLDS_GIL), which threads would only wait for.
        tail: each epoch takes the newest snapshot there is when its first rank begins it; which one, is
            written in this folder, where the other ranks and resumed runs read it.
        blend: {"mixup": 0.2, "cutmix": 1.0}: blends samples of a batch, and adds `soft_label`.
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
        processes: bool | None = None,
        tail: str | None = None,
        blend: Mapping[str, float] | None = None,
    ) -> None:
        self._arguments = {
            name: value for name, value in locals().items() if name not in ("self", "__class__")
        }
        if not 0 <= rank < world_size:
            raise ValueError(f"rank must be in [0, world_size), got rank={rank}, world_size={world_size}")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if mix not in ("batches", "samples"):
            raise ValueError(f"mix must be 'batches' or 'samples', got {mix!r}")
        self.batch_size, self.seed, self.rank, self.world_size = batch_size, seed, rank, world_size
        self.num_workers, self.drop_last, self.skip_bad = num_workers, drop_last, skip_bad
        if blend is not None:
            check_alphas(blend)
        self.blend = blend
        self.processes, self.pin_memory = processes, pin_memory
        self.mixed = not isinstance(dataset, str | Dataset)
        if isinstance(dataset, str | Dataset):
            parts = [
                Part(
                    dataset=dataset, split=split, labelled=labelled, augment=augment, prepare=prepare,
                    options=dict(options or {}), targets=tuple(targets),
                )
            ]  # fmt: skip
        else:
            parts = list(dataset)
        if tail and self.mixed:
            raise ValueError("tail: a mixture cannot follow growing datasets; give one dataset, or no tail")
        self._tail = Tail(tail) if tail else None
        self._reading: dict[str, Any] = {
            "seed": seed, "shuffle": shuffle, "open_shards": open_shards, "cache_bytes": cache_bytes,
            "cache": None if cache is None else Path(cache).expanduser(), "prefetch_bytes": prefetch_bytes,
        }  # fmt: skip
        self.epoch, self._position = 0, 0
        self._mix = mix
        self._plan = self._planned(parts)
        self._pool = Pool(pinned=pin_memory)
        self.skipped: Counter[str] = Counter()
        self.waited_s = 0.0  # what whoever iterates has spent waiting for batches
        self._last: Batch | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """A loader in another process begins where this one is; what it holds open stays here."""
        return _elsewhere, (self._arguments, self.epoch, self._position)

    def _planned(self, parts: Sequence[Part]) -> Plan:
        sources = [Source(part, **self._reading) for part in parts]
        names = "/".join(f"{s.dataset.manifest.digest}:{s.part.split}" for s in sources)
        weights = [part.weight for part in parts]
        schedule = Schedule(weights, name=f"{names}/{self.seed}") if self.mixed else None
        turn = self.batch_size * self.world_size if self.mixed and self._mix == "batches" else 1
        return Plan(sources, schedule, turn, self.batch_size, self.rank, self.world_size)

    @property
    def dataset(self) -> Dataset:
        """The snapshot read, of the first part in a mixture."""
        return self._plan.sources[0].dataset

    @property
    def sources(self) -> Sequence[Source]:
        """The datasets read: one, or the parts of a mixture."""
        return self._plan.sources

    @property
    def num_samples(self) -> int:
        """Samples of one epoch, of all ranks together; of a mixture, as many as its parts have."""
        return self._plan.num_samples

    @property
    def shuffle_quality(self) -> float:
        """See `EpochOrder.quality`; of a mixture, that of its worst part."""
        return min(source.order(0).quality for source in self.sources)

    def __len__(self) -> int:
        """Batches of one epoch; the same for every rank."""
        whole, rest = divmod(self.num_samples, self._plan.step)
        return whole + (rest > 0 and not self.drop_last)

    def state_dict(self) -> dict[str, Any]:
        """Where the next batch starts: an epoch, and a number of samples into it, of all ranks together."""
        epoch, position = self.epoch, self._position
        if position >= self._end:
            epoch, position = epoch + 1, 0
        digests = [source.dataset.manifest.digest[:16] for source in self.sources[:16]]
        state = {"epoch": epoch, "position": position, "seed": self.seed, "turn": self._plan.turn}
        return state if self._tail else state | {"manifests": digests}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where a loader of any world size was."""
        if state["seed"] != self.seed:
            raise ValueError(f"the state is of seed {state['seed']}, this loader has seed {self.seed}")
        mine = self.state_dict()
        for name, what in (("manifests", "snapshots"), ("turn", "global batches from one part of")):
            if state.get(name) != mine.get(name):
                raise ValueError(
                    f"the state is of {what} {state.get(name)}, this loader has {mine.get(name)}"
                )
        self.epoch = state["epoch"]
        if state["position"]:
            self._bind()
        if not 0 <= state["position"] < self.num_samples:
            raise ValueError(f"position {state['position']} is not in an epoch of {self.num_samples} samples")
        self._position = state["position"]

    @property
    def _end(self) -> int:
        """Samples of this epoch that come in batches."""
        return self.num_samples - (self.num_samples % self._plan.step if self.drop_last else 0)

    def _bind(self) -> None:
        """Take the snapshot of this epoch, where a growing dataset is followed."""
        if self._tail and (now := self._tail.snapshot(self.dataset, self.epoch)) is not self.dataset:
            self._plan = self._planned([replace(self.sources[0].part, dataset=now)])

    def __iter__(self) -> Iterator[Batch]:
        """The rest of this epoch: as many batches for every rank; in the last one it may have no rows."""
        if not self._position:
            self._bind()
        first, end = self.epoch * self.num_samples, self._end
        for batch in self._timed(self.run(first + self._position, first + end)):
            self._position = min(self._position + self._plan.step, end)
            yield batch
        self.epoch, self._position = self.epoch + 1, 0

    def stream(self) -> Iterator[Batch]:
        """Full batches without end: each epoch follows the one before, in the same batch where they meet.

        With `tail` an epoch ends with its last samples, in a batch that may be smaller.
        """
        while self._tail:
            yield from self
        for batch in self._timed(self.run(self.epoch * self.num_samples + self._position, None)):
            epochs, self._position = divmod(self._position + self._plan.step, self.num_samples)
            self.epoch += epochs
            yield batch

    def raw(self) -> Iterator[dict[str, list[Any]]]:
        """The rest of this epoch without decoding: `key`, and `files`, for each sample extension -> bytes.

        The bytes are verified views of mapped shards: nothing is copied.
        """
        first = self.epoch * self.num_samples
        for pieces in self._plan.batches(first + self._position, first + self.num_samples, RAW):
            keys, files = keys_and_files(pieces)
            self._position = min(self._position + self._plan.step, self.num_samples)
            yield self._sound(keys, files)
        self.epoch, self._position = self.epoch + 1, 0

    def _sound(self, keys: list[str], files: list[Contents | Corrupt]) -> dict[str, list[Any]]:
        """The samples that are whole; the others are an error, or are counted."""
        if Corrupt not in set(map(type, files)):
            return {"key": keys, "files": files}
        if not self.skip_bad:
            raise next(content for content in files if isinstance(content, Corrupt))
        whole = [i for i, content in enumerate(files) if not isinstance(content, Corrupt)]
        self.skipped["damaged"] += len(files) - len(whole)
        return {"key": [keys[i] for i in whole], "files": [files[i] for i in whole]}

    def batch(self, epoch: int, number: int) -> Batch:
        """One batch of this rank by its number in an epoch, whatever was read before."""
        if not 0 <= number < len(self):
            raise IndexError(f"an epoch has {len(self)} batches, got number {number}")
        start = number * self._plan.step
        first, end = epoch * self.num_samples, min(start + self._plan.step, self.num_samples)
        (pieces,) = self._plan.batches(first + start, first + end)
        return self._made(pieces)

    @property
    def _apart(self) -> bool:
        """Whether workers are processes. One of torch's DataLoader must not start others."""
        if self.processes is None:
            extensions = {extension for source in self.sources for extension in source.pages[0].extensions}
            self.processes = get_worker_info() is None and not HOLDS_GIL.isdisjoint(extensions)
        return self.processes

    def run(self, start: int, end: int | None) -> Iterator[Batch]:
        """Finished batches of the endless sequence, from one position to another, read ahead by workers."""
        if self.num_workers and self._apart:
            make = partial(Loader, **{**self._arguments, "num_workers": 0, "processes": False})
            options: dict[str, Any] = {
                "workers": self.num_workers,
                "pin_memory": self.pin_memory,
                "ahead": AHEAD,
            }
            for batch, skipped in in_processes(make, start, end, **options):
                self.skipped.update(skipped)
                yield batch
            return
        plan = self._plan.batches(start, end)
        if info := get_worker_info():  # a process of torch's DataLoader takes every so-manieth batch
            plan = (pieces for i, pieces in enumerate(plan) if i % info.num_workers == info.id)
        if self.num_workers == 0:
            for pieces in plan:
                yield self._made(pieces)
            return
        with ThreadPoolExecutor(self.num_workers, thread_name_prefix="loader") as threads:
            ahead: deque[tuple[list[Piece], list[Future[Any]]]] = deque()
            depth = AHEAD + 1
            try:
                for pieces in plan:
                    count = sum(piece.samples for piece in pieces)
                    assembly, parts = Assembly(count, self._pool), max(1, min(self.num_workers, count))
                    filling = [threads.submit(self._fill, assembly, pieces, i, parts) for i in range(parts)]
                    ahead.append((pieces, filling))
                    if len(ahead) > depth:
                        batch = self._gather(*ahead.popleft())
                        depth = max(1, min(AHEAD + 1, DECODED_BYTES // max(1, nbytes(batch))))
                        yield batch
                while ahead:
                    yield self._gather(*ahead.popleft())
            finally:
                for _, shares_ in ahead:
                    for share in shares_:
                        share.cancel()

    def _gather(self, pieces: list[Piece], shares: list[Future[Any]]) -> Batch:
        filled = [share.result() for share in shares]
        errors = [error for _, some in filled for error in some]
        return self._finish((filled[0][0], errors), pieces)

    def _timed(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        while True:
            began = time.perf_counter()
            batch = next(batches, None)
            self.waited_s += time.perf_counter() - began
            if batch is None:
                return
            yield batch

    def _fill(
        self, assembly: Assembly, pieces: list[Piece], share: int = 0, of: int = 1
    ) -> tuple[Assembly, list[str]]:
        """Make one share of a batch; the reasons of the samples that were skipped."""
        errors: list[str] = []
        for lot, start, stop in (piece.share(share, of) for piece in pieces):
            for i in range(start, stop, FETCHED):
                self._fill_from(Piece(lot, i, min(i + FETCHED, stop)), assembly, errors)
        return assembly, errors

    def _fill_from(self, piece: Piece, assembly: Assembly, errors: list[str]) -> None:
        lot, start, stop = piece
        slots, files = lot.slots[start:stop], lot.files(start, stop)
        opened = [self._opened(lot.source, contents) for contents in files]
        for i, at, contents, found in zip(range(start, stop), slots, files, opened, strict=True):
            try:
                if isinstance(contents, Corrupt):
                    raise contents
                made = lot.make(i, contents, found, assembly)
            except (Corrupt, BadSample) as bad:
                if not self.skip_bad:
                    raise
                errors.append(bad.reason if isinstance(bad, BadSample) else "damaged")
                continue
            assembly.put(at, made)
        if self.mixed:
            assembly.write("source", slots, [lot.source.name] * len(slots))
        assembly.write("key", slots, lot.keys[start:stop])
        assembly.write("label", slots, lot.labels[start:stop])

    def _opened(self, source: Source, contents: Contents | Corrupt) -> Any:
        if isinstance(contents, Corrupt):
            return None
        try:
            return source.chain.open(contents)
        except BadSample:
            return None  # `make` meets it again, and says which sample it is

    def _finish(self, filled: tuple[Assembly, list[str]], pieces: list[Piece]) -> Batch:
        assembly, errors = filled
        self.skipped.update(errors)
        batch = assembly.finish()
        if not batch.get("key"):
            return {name: value[:0] for name, value in self._example().items()}
        if self._last is None:
            self._last = {n: v[:0] if n in TEXTS else v[:0].clone() for n, v in batch.items()}
        if self.blend:
            lot = min(pieces, key=lambda piece: min(piece.lot.slots[piece.start : piece.stop])).lot
            rng = sample_rng(self.seed, lot.epoch, f"batch of {lot.source.name}/{batch['key'][0]}")
            classes = len(lot.source.dataset.manifest.classes)
            return blended(batch, rng, alphas=self.blend, num_classes=classes)
        return batch

    def _made(self, pieces: list[Piece]) -> Batch:
        count = sum(piece.samples for piece in pieces)
        return self._finish(self._fill(Assembly(count, self._pool), pieces), pieces)

    def _example(self) -> Batch:
        """A batch of this loader, for the fields of one without rows."""
        for at in range(self.num_samples if self._last is None else 0):
            (pieces,) = self._plan.pieces(np.array([at]))
            batch = self._fill(Assembly(1, self._pool), pieces)[0].finish()
            if batch.get("key"):
                self._last = batch
                break
        return self._last or {}


def _elsewhere(arguments: Mapping[str, Any], epoch: int, position: int) -> Loader:
    loader = Loader(**arguments)
    loader.epoch, loader._position = epoch, position
    return loader


def nbytes(batch: Batch) -> int:
    """Bytes of a batch's tensors."""
    return sum(value.nbytes for value in batch.values() if hasattr(value, "nbytes"))
