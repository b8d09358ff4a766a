"""Instants of frames."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from modalities.video.frames import TICKS, to_seconds

ticks = st.builds(Fraction, st.integers(1, 10_000), st.integers(1, 2_000_000))


@given(st.integers(-(2**40), 2**40), ticks | st.just(Fraction(1, 2 * TICKS)))
def test_an_instant_is_the_nearest_microsecond_and_of_two_the_even_one(number: int, tick: Fraction) -> None:
    assert to_seconds(number, tick) == round(number * tick * TICKS) / TICKS
