"""The endless sequence of samples that all ranks share, and which of it each batch of one rank takes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.loading.lots import Lot, Piece
from pipelines.loading.permutation import Numbers
from pipelines.loading.schedule import Schedule
from pipelines.loading.source import Source

PLANNED = 1024  # samples of a rank located at a time: numpy is slow on few


@dataclass(frozen=True)
class Plan:
    """Position p of the sequence belongs to rank p % world_size; nothing depends on the number of workers.

    turn: with a schedule, how many positions in a row are of the same source.
    """

    sources: Sequence[Source]
    schedule: Schedule | None
    turn: int
    batch_size: int
    rank: int
    world_size: int

    @property
    def step(self) -> int:
        """Samples of one global batch."""
        return self.batch_size * self.world_size

    @property
    def num_samples(self) -> int:
        """Samples of one epoch; of a mixture, as many as its sources have, in whole turns."""
        total = sum(source.num_samples for source in self.sources)
        return -(-total // self.turn) * self.turn

    def parts(self, positions: Numbers) -> Iterator[tuple[Source, int, Numbers, Numbers]]:
        """(source, its epoch, which of `positions`, their places in that epoch)."""
        if self.schedule is None:
            whose, counted = np.zeros_like(positions), positions
        else:
            turn, within = np.divmod(positions, self.turn)
            whose, before = self.schedule.locate(turn)
            counted = before * self.turn + within
        for part in np.unique(whose).tolist():
            source, mine = self.sources[part], np.flatnonzero(whose == part)
            epochs, places = np.divmod(counted[mine], source.num_samples)
            for epoch in np.unique(epochs).tolist():
                here = epochs == epoch
                source.prefetch(epoch, int(places[here][0]))
                yield source, epoch, mine[here], places[here]

    def pieces(self, positions: Numbers) -> Iterator[list[Piece]]:
        """Batch by batch, what each source gives of the samples at these positions."""
        size = self.batch_size
        lots = [
            Lot(source, epoch, places, batches=mine // size, slots=mine % size)
            for source, epoch, mine, places in self.parts(positions)
        ]
        for number in range(-(-len(positions) // size)):
            yield [piece for lot in lots if (piece := lot.batch(number)).samples]

    def chunks(self, start: int, end: int | None, planned: int = PLANNED) -> Iterator[Numbers]:
        """This rank's positions from `start` to `end`, whole batches but for the last, many at a time."""
        span = -(-planned // self.batch_size) * self.step
        while end is None or start < end:
            stop = start + span if end is None else min(start + span, end)
            yield np.arange(start + self.rank, stop, self.world_size)
            start = stop

    def batches(self, start: int, end: int | None, planned: int = PLANNED) -> Iterator[list[Piece]]:
        """This rank's part of each global batch; in the last one there may be nothing."""
        left = None if end is None else -(-(end - start) // self.step)
        for positions in self.chunks(start, end, planned):
            for pieces in self.pieces(positions):
                yield pieces
                left = None if left is None else left - 1
        yield from [[]] * (left or 0)
