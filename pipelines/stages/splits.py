"""Which split a scene goes to: a pure function of its hash, or of its rank among those of its class."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

NAMES = ("test", "train", "val")  # codes are places in here
TEST, TRAIN, VAL = range(3)


def split_of(places: NDArray[np.float64], shares: Mapping[str, float]) -> NDArray[np.int8]:
    """Codes for places in [0, 1): below `val` validation, the next `test` of them test, the rest training."""
    val, test = shares["val"], shares["test"]
    codes = np.where(places < val, VAL, np.where(places < val + test, TEST, TRAIN))
    return codes.astype(np.int8)


def split_by_draw(draws: NDArray[np.uint64], shares: Mapping[str, float]) -> NDArray[np.int8]:
    """Codes by 64-bit hashes. Shares are met on average; what else there is changes nothing."""
    return split_of(draws / 2.0**64, shares)


class Strata:
    """Splits by rank within a class: every class has its shares, to within one scene.

    totals: samples in the scenes of each class, (classes,). Scenes must come in the order of their hashes, in
    parts of any size; a scene counts for the class that most of its samples have.
    """

    def __init__(self, totals: NDArray[np.int64], shares: Mapping[str, float]) -> None:
        self._totals, self._shares = np.maximum(totals, 1), shares
        self._passed = np.zeros(len(totals), np.int64)

    def assign(self, classes: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int8]:
        """Codes of the next scenes, (n,), of these classes and numbers of samples."""
        order = np.argsort(classes, kind="stable")
        ordered, sizes = classes[order], counts[order]
        before = np.cumsum(sizes) - sizes
        first = np.searchsorted(ordered, ordered)
        before += self._passed[ordered] - before[first]
        codes = np.empty(len(classes), np.int8)
        codes[order] = split_of((before + sizes / 2) / self._totals[ordered], self._shares)
        np.add.at(self._passed, classes, counts)
        return codes
