"""Numbers of a grey picture are the same whatever adds them up."""

import numpy as np
import pytest
from scipy import stats

from modalities import grey


def test_entropy_is_that_of_the_histogram_in_whatever_order_it_is_summed() -> None:
    rng = np.random.default_rng(0)
    for levels, most in ((1, 9), (2, 2**20), (40, 300), (256, 5), (256, 2**18)):
        for _ in range(50):
            counts = np.zeros(256, np.int64)
            counts[:levels] = rng.integers(1, most, levels)
            value = grey.entropy(counts)
            assert value == pytest.approx(stats.entropy(counts, base=2), abs=2e-6)
            for _ in range(4):
                shuffled = rng.permutation(np.append(counts, np.zeros(rng.integers(9), np.int64)))
                assert grey.entropy(shuffled) == value


def test_no_last_digit_of_a_logarithm_decides() -> None:
    """Machines agree on one to about 2**-46; none is that near to where it would be rounded otherwise."""
    parts = np.log2(np.arange(1.0, 2**18)) * grey._PARTS
    assert np.abs(parts - np.floor(parts) - 0.5).min() > 2**8 * 2.0**-46 * grey._PARTS
