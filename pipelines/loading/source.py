"""One dataset as a loader sees it: which samples take part, in which order, and how one is made."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import modalities
from modalities.base import Arrays, BadSample
from pipelines.loading.augment import Chain, Step
from pipelines.loading.buffers import Assembly
from pipelines.loading.cache import ShardCache
from pipelines.loading.catalog import UNLABELLED, Catalog, labelled_counts, lookup
from pipelines.loading.order import EpochOrder
from pipelines.loading.reading import Contents, Reader
from pipelines.shards.dataset import Dataset
from pipelines.shards.index import Row
from pipelines.shards.manifest import Shard


@dataclass(frozen=True, kw_only=True)
class Part:
    """One dataset of a mixture, with what `Loader` takes for a single one.

    weight: its share of the samples, against the other parts'.
    name: what `source` says in the batches; the dataset's URL by default.
    """

    dataset: str | Dataset
    weight: float = 1.0
    name: str | None = None
    split: str | None = None
    labelled: bool = False
    augment: bool | Sequence[Step] = False
    options: Mapping[str, Any] = field(default_factory=dict)
    targets: Sequence[str] = ()
    prepare: bool = True


class Source:
    """A snapshot of a dataset, ready to be read in any order."""

    def __init__(
        self, part: Part, *, seed: int, shuffle: bool, open_shards: int | None, cache: Path | None,
        cache_bytes: int, prefetch_bytes: int,
    ) -> None:  # fmt: skip
        self.dataset = Dataset.open(part.dataset) if isinstance(part.dataset, str) else part.dataset
        manifest = self.dataset.manifest
        self.part, self.seed, self.shuffle, self.open_shards = part, seed, shuffle, open_shards
        self.name = part.name or self.dataset.storage.url
        self.modality = modalities.get(manifest.modality)
        steps = () if isinstance(part.augment, bool) else part.augment
        self.chain = Chain(manifest.modality, steps)
        self.shards: list[Shard] = [s for s in manifest.shards if part.split is None or s.split == part.split]
        self.sizes = np.array([shard.samples for shard in self.shards], np.int64)
        if part.labelled and self.shards:
            self.sizes = labelled_counts(self.dataset, self.shards)
        self.num_samples = int(self.sizes.sum())
        if not self.num_samples:
            there = sorted({s.split for s in manifest.shards})
            which = "labelled samples" if part.labelled else "samples"
            raise ValueError(
                f"no {which} in split {part.split!r} of {self.dataset.storage.url}; it has {there}"
            )
        limit = 3 * (open_shards or len(self.shards)) + 2
        self.pages = Catalog(
            self.dataset, self.shards, labelled=part.labelled, facts=bool(part.targets), limit=limit
        )
        kept = ShardCache(cache, cache_bytes) if cache and cache_bytes else None
        self.reader = Reader(self.dataset.storage, cache=kept, prefetch_bytes=prefetch_bytes, limit=limit)
        self._orders: dict[int, EpochOrder] = {}
        self._at: tuple[int, int] | None = None  # epoch and block that was asked for last

    def order(self, epoch: int) -> EpochOrder:
        """The order of an epoch; that of two epochs is kept."""
        if epoch not in self._orders:
            for old in [e for e in self._orders if e != epoch - 1]:
                del self._orders[old]
            self._orders[epoch] = EpochOrder(
                self.sizes, name=f"{self.dataset.manifest.digest}/{self.seed}", epoch=epoch,
                open_shards=self.open_shards, shuffle=self.shuffle,
            )  # fmt: skip
        return self._orders[epoch]

    def prefetch(self, epoch: int, place: int) -> None:
        """Be ready for the block at `place`, and for the one behind it."""
        order = self.order(epoch)
        if self._at == (epoch, block := order.block(place)):
            return
        self._at = epoch, block
        numbers = [*order.block_shards(block).tolist(), *order.block_shards(block + 1).tolist()]
        self.reader.prefetch([self.shards[number] for number in numbers])
        if self.reader.local is None:
            for number in numbers:
                self.reader.ahead(self.pages.__getitem__, number)

    def arrays(
        self,
        contents: Contents,
        rng: np.random.Generator | None,
        opened: Any = None,
        assembly: Assembly | None = None,
        at: int = 0,
    ) -> dict[str, Any]:
        """Decode, augment and prepare one sample; into slot `at` of `assembly` where that can be.

        `opened` is what `Chain.open` made of its files, if somebody has.
        """
        part, opened = self.part, opened or self.chain.open(contents)
        if not isinstance(part.augment, bool):
            rng_of_prepare, rng_of_steps = None, rng
        else:
            rng_of_prepare, rng_of_steps = rng, None
        if not part.prepare:
            return numeric(self.chain.arrays(contents, rng_of_steps, opened, assembly, at))
        arrays = self.chain.arrays(contents, rng_of_steps, opened)
        return dict(self.modality.prepare(arrays, rng=rng_of_prepare, **part.options))


def numeric(arrays: Arrays) -> dict[str, Any]:
    """The fields that can lie in a batch: no texts, no colour profile."""
    return {name: value for name, value in arrays.items() if value.dtype.kind in "biufc" and name != "icc"}


def load_sample(
    dataset: Dataset,
    shard: Shard,
    row: Row,
    *,
    rng: np.random.Generator | None,
    options: Mapping[str, Any],
    targets: Sequence[str] = (),
) -> dict[str, Any]:
    """Read, verify, decode and prepare one sample: arrays by field, with "key" and "label"."""
    modality = modalities.get(dataset.manifest.modality)
    try:
        arrays = modality.look(dataset.files(shard, row))
        sample: dict[str, Any] = dict(modality.prepare(arrays, rng=rng, **options))
    except BadSample as bad:
        raise BadSample(bad.reason, f"sample {row.key} in {shard.key}: {bad.detail}") from bad
    for name in targets:
        sample[name] = np.float32(lookup(row.key, name, row.meta, row.quality))
    sample["key"] = row.key
    number = UNLABELLED if row.label is None else dataset.class_numbers[row.label]
    sample["label"] = np.int64(number)
    return sample
