"""Learning rates by name."""

from itertools import pairwise

import pytest

from jobs.schedules import schedule

NAMES = ("cosine", "linear", "wsd", "constant")


@pytest.mark.parametrize("name", NAMES)
def test_every_schedule_warms_up_to_its_peak_and_never_passes_it(name: str) -> None:
    rates = [schedule(name, step, steps=100, warmup=9, cooldown=20) for step in range(100)]
    assert rates[:9] == pytest.approx([(i + 1) / 10 for i in range(9)])
    assert max(rates) == rates[9] == 1.0
    assert min(rates) > 0
    assert all(a >= b for a, b in pairwise(rates[9:]))


def test_the_last_steps_are_near_zero_except_of_a_constant_rate() -> None:
    ends = {name: schedule(name, 99, steps=100, warmup=0, cooldown=19) for name in NAMES}
    assert ends.pop("constant") == 1.0
    assert max(ends.values()) <= 0.05 + 1e-12


def test_wsd_stays_at_its_peak_until_the_cooldown() -> None:
    rates = [schedule("wsd", step, steps=50, warmup=5, cooldown=10) for step in range(50)]
    assert set(rates[5:40]) == {1.0}
    assert rates[40:] == pytest.approx([(10 - i) / 11 for i in range(10)])


def test_an_unknown_schedule_is_answered_with_those_there_are() -> None:
    with pytest.raises(LookupError, match="no schedule 'step'; there are cosine"):
        schedule("step", 5, steps=10)
