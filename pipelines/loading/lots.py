"""Samples located many at a time and read few at a time.

numpy is slow on few, so thousands of samples ahead are located together. A sample's files are objects that
Python's collector looks through as long as they live, so what is made ahead are numbers in flat lists, and
the files of a batch are made when it is its turn.
"""

from collections.abc import Sequence
from itertools import islice
from typing import Any, NamedTuple

import crc32c
import numpy as np

from modalities.base import BadSample
from pipelines.loading.buffers import Assembly
from pipelines.loading.catalog import Page
from pipelines.loading.order import sample_rng
from pipelines.loading.permutation import Numbers
from pipelines.loading.reading import LARGE, Contents
from pipelines.loading.source import Source
from pipelines.shards.dataset import Corrupt


class Lot:
    """Samples of one source in one epoch, for several batches.

    They lie batch by batch, and in each batch forward through every shard: memory and disks like it.

    Args:
        source: whose they are.
        places: (k,), where they are in the order of the epoch.
        batches: (k,), which batch each is of.
        slots: (k,), its place in that batch.
    """

    def __init__(
        self, source: Source, epoch: int, places: Numbers, *, batches: Numbers, slots: Numbers
    ) -> None:
        self.source, self.epoch = source, epoch
        shards, numbers = source.order(epoch).locate(places)
        order = np.lexsort((numbers, shards, batches))
        shards, numbers, batches = shards[order], numbers[order], batches[order]
        self._edges = np.searchsorted(batches, np.arange(int(batches.max(initial=-1)) + 2)).tolist()
        rows, counts, labels = np.empty_like(numbers), np.empty_like(numbers), np.empty_like(numbers)
        first = np.empty_like(numbers)  # of a sample's members, in the columns of all shards
        keys = np.empty(len(shards), object)
        self._pages: dict[int, Page] = {}
        columns: list[tuple[Numbers, Numbers, Numbers, Numbers]] = []
        done = 0
        for shard in np.unique(shards).tolist():
            page = self._pages[shard] = source.pages[shard]
            here = np.flatnonzero(shards == shard)
            rows[here] = mine = page.rows(numbers[here])
            keys[here], labels[here] = page.some_keys(mine), page.labels[mine]
            counts[here] = many = page.first[mine + 1] - page.first[mine]
            members = _runs(page.first[mine], many)
            first[here] = done + np.cumsum(many) - many
            names = np.array(page.extensions, object)[page.kinds[members]]
            starts = page.offsets[members]
            columns.append((names, starts, starts + page.sizes[members], page.sums[members]))
            done += len(members)
        self.labels = labels
        self.keys: list[str] = keys.tolist()
        self.slots: list[int] = slots[order].tolist()
        self._shards, self._rows, self._counts = shards.tolist(), rows.tolist(), counts.tolist()
        self._members = np.concatenate([[0], np.cumsum(counts)]).tolist()  # where a sample's members begin
        self._of = np.repeat(shards, counts).tolist()  # each member's shard
        ragged = _runs(first, counts)
        joined: list[list[Any]] = [
            np.concatenate(column)[ragged].tolist() for column in zip(*columns, strict=True)
        ]
        self._names, self._starts, self._ends, self._sums = joined or [[], [], [], []]

    def batch(self, number: int) -> "Piece":
        """The samples of one batch."""
        edges = self._edges[number : number + 2]
        return Piece(self, *edges) if len(edges) == 2 else Piece(self, 0, 0)

    def page(self, i: int) -> tuple[Page, int]:
        """The index that sample `i` is in, and its row there."""
        return self._pages[self._shards[i]], self._rows[i]

    def files(self, start: int, stop: int) -> list[Contents | Corrupt]:
        """Verified files of these samples; an error in place of a damaged one."""
        members, here = slice(self._members[start], self._members[stop]), slice(start, stop)
        reader = self.source.reader
        maps = {shard: reader.map(self._pages[shard].shard) for shard in set(self._shards[here])}
        if None not in maps.values():
            places = zip(self._of[members], self._starts[members], self._ends[members], strict=True)
            parts = [maps[shard][first:end] for shard, first, end in places]  # type: ignore[index]
            checksum = crc32c.crc32c
            if [checksum(part, 0, len(part) > LARGE) for part in parts] == self._sums[members]:
                found = iter(zip(self._names[members], parts, strict=True))
                return [dict(islice(found, count)) for count in self._counts[here]]
        return [reader.files_or_error(*self.page(i)) for i in range(start, stop)]

    def make(
        self, i: int, contents: Contents, opened: Any = None, assembly: Assembly | None = None
    ) -> dict[str, Any]:
        """Sample `i` of its files: see `Source.arrays`. BadSample says which sample it is."""
        source, key, (page, row) = self.source, self.keys[i], self.page(i)
        rng = sample_rng(source.seed, self.epoch, key) if source.part.augment else None
        try:
            sample = source.arrays(contents, rng, opened, assembly, self.slots[i])
        except BadSample as bad:
            raise BadSample(bad.reason, f"sample {key} in {page.shard.key}: {bad.detail}") from bad
        for name in source.part.targets:
            sample[name] = np.float32(page.number(row, name))
        return sample


class Piece(NamedTuple):
    """What one lot gives to a batch: its samples start : stop."""

    lot: Lot
    start: int
    stop: int

    @property
    def samples(self) -> int:
        """How many."""
        return self.stop - self.start

    def share(self, number: int, of: int) -> "Piece":
        """One of `of` parts that are about as large."""
        return Piece(
            self.lot, self.start + self.samples * number // of, self.start + self.samples * (number + 1) // of
        )


def keys_and_files(pieces: Sequence[Piece]) -> tuple[list[str], list[Contents | Corrupt]]:
    """Of a batch, in its own order, with an error in place of a damaged sample."""
    count = sum(piece.samples for piece in pieces)
    keys: list[Any] = [""] * count
    files: list[Any] = [None] * count
    for lot, start, stop in pieces:
        found = zip(lot.slots[start:stop], lot.keys[start:stop], lot.files(start, stop), strict=True)
        for at, key, content in found:
            keys[at], files[at] = key, content
    return keys, files


def _runs(first: Numbers, counts: Numbers) -> Numbers:
    """first[0], first[0] + 1, ... `counts[0]` of them, then those of first[1], and so on."""
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total) + np.repeat(first - ends + counts, counts)
