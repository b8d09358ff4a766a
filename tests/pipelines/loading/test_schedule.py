"""Turns of a weighted mixture."""

from itertools import pairwise

import numpy as np
import pytest

from pipelines.loading.schedule import TURNS, Schedule


def test_each_part_has_its_share_of_every_cycle() -> None:
    whose, _ = Schedule([5, 3, 2], name="a").locate(np.arange(10 * TURNS))
    for cycle in whose.reshape(10, TURNS):
        assert np.bincount(cycle).tolist() == pytest.approx([0.5 * TURNS, 0.3 * TURNS, 0.2 * TURNS], abs=2)


def test_a_part_takes_its_turns_one_after_another_across_cycles() -> None:
    whose, before = Schedule([1, 7], name="a").locate(np.arange(3 * TURNS))
    for part in (0, 1):
        mine = before[whose == part].tolist()
        assert mine[0] == 0
        assert all(later == earlier + 1 for earlier, later in pairwise(mine))


def test_any_turn_is_found_without_those_before() -> None:
    turns = np.array([5 * TURNS + 3, 10**12, 0])
    together = Schedule([1, 2], name="a").locate(turns)
    for i, turn in enumerate(turns):
        alone = Schedule([1, 2], name="a").locate(np.array([turn]))
        assert [int(a[0]) for a in alone] == [int(b[i]) for b in together]


def test_no_part_is_rounded_away() -> None:
    assert Schedule([1e9, 1], name="a").counts.tolist() == [TURNS - 1, 1]


def test_cycles_differ() -> None:
    first, second = Schedule([1, 1], name="a").locate(np.arange(2 * TURNS))[0].reshape(2, TURNS)
    assert first.tolist() != second.tolist()


@pytest.mark.parametrize("weights", [[], [1, 0], [1, -1], [1, float("nan")], [float("inf")]])
def test_weights_must_be_finite_and_above_zero(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="finite and above 0"):
        Schedule(weights, name="a")
