"""The order of samples: a pure function of (manifest digest, seed, epoch), the same on every machine."""

from collections.abc import Sequence

import blake3
import numpy as np

from pipelines.loading.permutation import Numbers, Permutation

OPEN_SHARDS = 16  # shards that are mixed with each other at a time


class EpochOrder:
    """Where the samples of one epoch lie, place by place.

    The shards are permuted and dealt to blocks of at most `open_shards`; inside a block all samples are
    permuted together. So never more than a block's shards are open, any place is found without those
    before it, and the memory is a few numbers a shard, as the manifest's is.

    Args:
        sizes: samples of each shard.
        name: what the order is a function of, besides the epoch.
        open_shards: shards of a block; None for all, a full shuffle.
    """

    def __init__(
        self,
        sizes: Sequence[int] | Numbers,
        *,
        name: str,
        epoch: int,
        open_shards: int | None,
        shuffle: bool = True,
    ) -> None:
        self.sizes = np.asarray(sizes, np.int64)
        self.total = int(self.sizes.sum())
        self._shuffle, self._key = shuffle, f"{name}/{epoch}"
        count = len(self.sizes)
        self.shards = np.arange(count)
        if shuffle and count:
            self.shards = Permutation(count, f"{self._key}/shards".encode())[self.shards]
        self._starts = np.concatenate([[0], np.cumsum(self.sizes[self.shards])])
        blocks = max(1, -(-count // (open_shards or max(count, 1))))
        self._edges = np.arange(blocks + 1) * count // blocks  # rows of `shards` where blocks begin
        self._block_starts = self._starts[self._edges]
        self._permutations: dict[int, Permutation] = {}

    def locate(self, places: Numbers) -> tuple[Numbers, Numbers]:
        """(shard numbers, rows in them) of the samples at `places` of the epoch, each (k,)."""
        places = np.asarray(places, np.int64)
        if places.size and not 0 <= places.min() <= places.max() < self.total:
            raise IndexError(f"places must be in [0, {self.total}), got {places.min()}..{places.max()}")
        if self._shuffle:
            places = self._shuffled(places)
        slot = np.searchsorted(self._starts, places, side="right") - 1
        return self.shards[slot], places - self._starts[slot]

    def _shuffled(self, places: Numbers) -> Numbers:
        block = np.searchsorted(self._block_starts, places, side="right") - 1
        found = np.empty_like(places)
        for number in np.unique(block).tolist():
            here = block == number
            first = self._block_starts[number]
            found[here] = first + self._permutation(number)[places[here] - first]
        return found

    def _permutation(self, block: int) -> Permutation:
        if block not in self._permutations:
            if len(self._permutations) > 1:  # batches lie in one block or two
                self._permutations.clear()
            size = int(self._block_starts[block + 1] - self._block_starts[block])
            self._permutations[block] = Permutation(size, f"{self._key}/block {block}".encode())
        return self._permutations[block]

    def block(self, place: int) -> int:
        """The block that a place lies in."""
        return int(np.searchsorted(self._block_starts, place, side="right")) - 1

    def block_shards(self, block: int) -> Numbers:
        """Numbers of a block's shards; none behind the last block."""
        if not 0 <= block < len(self._edges) - 1:
            return self.shards[:0]
        return self.shards[self._edges[block] : self._edges[block + 1]]

    @property
    def quality(self) -> float:
        """How well samples are mixed across shards, 0 (shard after shard) to 1 (as a full shuffle does).

        The entropy of the shard that a sample comes from, given where in the epoch it is, as a share of the
        entropy without that knowledge. Inside a shard samples are always mixed fully.
        """
        shares = self.sizes[self.sizes > 0] / max(1, self.total)
        whole = float(-(shares * np.log(shares)).sum())
        if whole == 0:
            return 1.0
        if not self._shuffle:
            return 0.0
        sizes = self.sizes[self.shards]
        blocks = np.repeat(np.diff(self._block_starts), np.diff(self._edges))
        there = sizes > 0
        inside = -(sizes[there] / self.total * np.log(sizes[there] / blocks[there])).sum()
        return float(inside / whole)


def sample_rng(seed: int, epoch: int, key: str) -> np.random.Generator:
    """The randomness of one sample in one epoch, so that any augmented sample can be made again."""
    name = blake3.blake3(f"{seed}/{epoch}/{key}".encode()).digest(16)
    return np.random.Generator(np.random.Philox(key=int.from_bytes(name, "little")))
