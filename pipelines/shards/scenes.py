"""Scenes that must go one way: linked by duplicates, or in a split already."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.stages.dedup import components
from pipelines.stages.splits import split_by_draw


class Scenes:
    """Scenes by their draws: those that are linked share one; those linked to an anchor share its split.

    links: (n, 2) pairs of draws. anchors: draws of the snapshot before, with the codes of their splits.
    """

    def __init__(
        self, links: NDArray[np.uint64], anchors: list[tuple[NDArray[np.uint64], NDArray[np.int8]]]
    ) -> None:
        self._draws = np.unique(links)
        left, right = (np.searchsorted(self._draws, links[:, i]) for i in (0, 1))
        self._first = components(left, right, len(self._draws))
        self._known = np.empty(0, np.uint64)
        self._codes = np.empty(0, np.int8)
        if anchors:
            draws = self.draws(np.concatenate([draws for draws, _ in anchors]))
            self._known, first = np.unique(draws, return_index=True)
            self._codes = np.concatenate([codes for _, codes in anchors])[first]

    def draws(self, draws: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """The draw that all linked scenes have in common."""
        at, found = _at(draws, self._draws)
        joined: NDArray[np.uint64] = draws.copy()
        joined[found] = self._draws[self._first[at[found]]]
        return joined

    def settled(self, draws: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Whether the snapshot before has settled their split."""
        return _at(self.draws(draws), self._known)[1]

    def splits(self, draws: NDArray[np.uint64], shares: Mapping[str, Any]) -> NDArray[np.int8]:
        """Codes: as the snapshot before has it, else by hash."""
        draws = self.draws(draws)
        codes = split_by_draw(draws, shares)
        at, found = _at(draws, self._known)
        codes[found] = self._codes[at[found]]
        return codes


def _at(
    values: NDArray[np.uint64], ordered: NDArray[np.uint64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    if not len(ordered):
        return np.zeros(len(values), np.int64), np.zeros(len(values), bool)
    at = np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)
    return at, ordered[at] == values
