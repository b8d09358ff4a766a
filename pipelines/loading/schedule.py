"""Whose turn it is in a weighted mixture: any turn is found without those before it."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipelines.loading.permutation import Numbers, Permutation

TURNS = 1024  # of one cycle, in which every part has its exact share of turns


class Schedule:
    """Turns dealt to parts by weight: fixed numbers of them in a cycle of TURNS, in a fresh order each time.

    Args:
        weights: of the parts, above 0; shares are rounded to 1 / TURNS, and none is rounded away.
        name: what the order is a function of.
    """

    def __init__(self, weights: Sequence[float], *, name: str) -> None:
        if not weights or min(weights) <= 0 or not np.isfinite(weights).all():
            raise ValueError(f"weights must be finite and above 0, got {list(weights)}")
        if len(weights) > TURNS:
            raise ValueError(f"a mixture has at most {TURNS} parts, got {len(weights)}")
        self.counts = _shares(np.asarray(weights, np.float64))
        self._deck = np.repeat(np.arange(len(weights)), self.counts)
        self._name = name
        self._cycles: dict[int, tuple[Numbers, Numbers]] = {}

    def locate(self, turns: Numbers) -> tuple[Numbers, Numbers]:
        """(whose, how many turns that part had before) for each turn, each (k,)."""
        whose, before = np.empty_like(turns), np.empty_like(turns)
        cycle, within = np.divmod(turns, TURNS)
        for number in np.unique(cycle).tolist():
            here = cycle == number
            parts, ranks = self._cycle(number)
            whose[here] = parts[within[here]]
            before[here] = number * self.counts[whose[here]] + ranks[within[here]]
        return whose, before

    def _cycle(self, number: int) -> tuple[Numbers, Numbers]:
        """(whose turn, which of that part's turns of the cycle), each (TURNS,)."""
        if number not in self._cycles:
            if len(self._cycles) > 1:
                self._cycles.clear()
            order = Permutation(TURNS, f"{self._name}/cycle {number}".encode())[np.arange(TURNS)]
            parts = self._deck[order]
            ranks = np.empty(TURNS, np.int64)
            for part, count in enumerate(self.counts):
                ranks[parts == part] = np.arange(count)
            self._cycles[number] = parts, ranks
        return self._cycles[number]


def _shares(weights: NDArray[np.float64]) -> Numbers:
    """Whole turns in proportion to `weights`, at least one each, TURNS together, by largest remainder."""
    exact = weights / weights.sum() * (TURNS - len(weights))
    counts: Numbers = np.floor(exact).astype(np.int64) + 1
    rest = np.argsort(-(exact - np.floor(exact)), kind="stable")[: TURNS - int(counts.sum())]
    counts[rest] += 1
    return counts
