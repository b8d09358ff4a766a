"""Samples as bytes, many located at a time and few opened.

A sample's files are objects that Python's collector looks through as long as they live. So what is made for
thousands of samples ahead are numbers in flat lists, and the files of a batch are made when it is its turn.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Any

import crc32c
import numpy as np

from pipelines.loading.catalog import Page
from pipelines.loading.permutation import Numbers
from pipelines.loading.plan import Plan
from pipelines.loading.reading import KEEP_GIL, Contents
from pipelines.loading.source import Source
from pipelines.shards.dataset import Corrupt


def batches_of(plan: Plan, positions: Numbers) -> Iterator[tuple[list[str], list[Contents | Corrupt]]]:
    """Keys and verified files of each batch of a rank's `positions`; of an empty one if it has none."""
    size = plan.batch_size
    lots = [
        (mine, Lot(source, *source.order(epoch).locate(places), mine // size))
        for source, epoch, mine, places in plan.parts(positions)
    ]
    for number in range(max(1, -(-len(positions) // size))):
        count = min(size, len(positions) - number * size)
        keys: list[Any] = [""] * count
        files: list[Any] = [None] * count
        for mine, lot in lots:
            which, there, contents = lot.batch(number)
            for at, key, content in zip((mine[which] % size).tolist(), there, contents, strict=True):
                keys[at], files[at] = key, content
        yield keys, files


class Lot:
    """Samples of one source for several batches, located and not read.

    Args:
        source: whose they are.
        shards, numbers: of `EpochOrder.locate`, each (k,).
        batches: (k,), which batch each is of; these rise.
    """

    def __init__(self, source: Source, shards: Numbers, numbers: Numbers, batches: Numbers) -> None:
        self._source = source
        # Batch by batch, and in each forward through every shard: memory and disks like it.
        self._order = np.lexsort((numbers, shards, batches))
        self._edges = np.searchsorted(batches, np.arange(int(batches.max(initial=-1)) + 2)).tolist()
        shards, numbers = shards[self._order], numbers[self._order]
        rows, counts = np.empty_like(numbers), np.empty_like(numbers)
        first = np.empty_like(numbers)  # of a sample's members, in the columns of all shards
        keys = np.empty(len(shards), object)
        self._pages: dict[int, Page] = {}
        columns: list[tuple[Numbers, Numbers, Numbers, Numbers]] = []
        done = 0
        for shard in np.unique(shards).tolist():
            page = self._pages[shard] = source.pages[shard]
            here = np.flatnonzero(shards == shard)
            rows[here] = mine = page.rows(numbers[here])
            keys[here] = page.some_keys(mine)
            counts[here] = many = page.first[mine + 1] - page.first[mine]
            members = _runs(page.first[mine], many)
            first[here] = done + np.cumsum(many) - many
            names = np.array(page.extensions, object)[page.kinds[members]]
            starts = page.offsets[members]
            columns.append((names, starts, starts + page.sizes[members], page.sums[members]))
            done += len(members)
        self.keys: list[str] = keys.tolist()
        self._shards, self._rows, self._counts = shards.tolist(), rows.tolist(), counts.tolist()
        self._members = np.concatenate([[0], np.cumsum(counts)]).tolist()  # where a sample's members begin
        self._of = np.repeat(shards, counts).tolist()  # each member's shard
        ragged = _runs(first, counts)
        joined: list[list[Any]] = [
            np.concatenate(column)[ragged].tolist() for column in zip(*columns, strict=True)
        ]
        self._names, self._starts, self._ends, self._sums = joined or [[], [], [], []]

    def batch(self, number: int) -> tuple[Numbers, list[str], list[Contents | Corrupt]]:
        """(which of the k samples, their keys, their verified files) of one batch."""
        edges = self._edges[number : number + 2]
        here = slice(*edges) if len(edges) == 2 else slice(0, 0)
        return self._order[here], self.keys[here], self._files(here)

    def _files(self, here: slice) -> list[Contents | Corrupt]:
        members = slice(self._members[here.start], self._members[here.stop])
        maps = {shard: self._source.reader.map(self._pages[shard].shard) for shard in set(self._shards[here])}
        if None not in maps.values():
            places = zip(self._of[members], self._starts[members], self._ends[members], strict=True)
            parts = [maps[shard][start:end] for shard, start, end in places]  # type: ignore[index]
            checksum = crc32c.crc32c
            if [checksum(part, 0, KEEP_GIL) for part in parts] == self._sums[members]:
                found = iter(zip(self._names[members], parts, strict=True))
                return [dict(islice(found, count)) for count in self._counts[here]]
        read = self._source.reader.files_or_error
        places_ = zip(self._shards[here], self._rows[here], strict=True)
        return [read(self._pages[shard], row) for shard, row in places_]


def _runs(first: Numbers, counts: Numbers) -> Numbers:
    """first[0], first[0] + 1, ... `counts[0]` of them, then those of first[1], and so on."""
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total) + np.repeat(first - ends + counts, counts)
