"""Permutations without a table."""

import tracemalloc

import numpy as np
import pytest

from pipelines.loading.permutation import Permutation


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 17, 64, 65, 1000, 4097])
def test_every_number_comes_once(count: int) -> None:
    found = Permutation(count, b"key")[np.arange(count)]
    assert sorted(found.tolist()) == list(range(count))


def test_places_do_not_depend_on_what_else_is_asked_for() -> None:
    shuffle = Permutation(10_000, b"key")
    whole = shuffle[np.arange(10_000)]
    assert shuffle[np.array([9_999, 3, 3])].tolist() == [whole[9_999], whole[3], whole[3]]


def test_the_order_is_that_of_the_first_release() -> None:
    """These numbers may not change: runs that resume after an update rely on them."""
    assert Permutation(1000, b"rayloom")[np.arange(6)].tolist() == [693, 947, 337, 533, 48, 134]


@pytest.mark.parametrize("count", [3, 6, 16, 50])
def test_every_place_is_as_likely_for_every_number(count: int) -> None:
    """Chi-squared over 2,000 keys, at six standard deviations of the statistic."""
    tries = 2000
    seen = np.zeros((count, count))
    for key in range(tries):
        seen[np.arange(count), Permutation(count, f"{key}".encode())[np.arange(count)]] += 1
    statistic = float(((seen - tries / count) ** 2 / (tries / count)).sum())
    freedom = (count - 1) ** 2
    assert abs(statistic - freedom) < 6 * (2 * freedom) ** 0.5


def test_neighbours_do_not_stay_together() -> None:
    """In a random order of n one in n / 2 neighbours is a neighbour still."""
    found = Permutation(100_000, b"key")[np.arange(100_000)]
    assert (np.abs(np.diff(found)) == 1).sum() < 20


def test_a_billion_numbers_take_no_memory() -> None:
    tracemalloc.start()
    try:
        found = Permutation(10**9, b"key")[np.arange(10**9 - 100, 10**9)]
        assert len(set(found.tolist())) == 100
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_nothing_cannot_be_permuted() -> None:
    with pytest.raises(ValueError, match="at least one element, got 0"):
        Permutation(0, b"key")
