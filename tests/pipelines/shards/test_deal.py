import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.shards.deal import OVERHEAD, deal_evenly, deal_in_order

LIMITS = {"max_bytes": 1_000_000, "max_samples": 100}


@settings(max_examples=150)
@given(
    st.lists(st.integers(0, 3_000_000), max_size=300),
    st.integers(1, 200),
    st.sampled_from([deal_evenly, deal_in_order]),
)
def test_no_shard_is_over_a_limit_but_for_one_sample_that_is(
    sizes: list[int], most: int, deal: object
) -> None:
    array = np.array(sizes, np.int64)
    dealt = deal(array, max_bytes=1_000_000, max_samples=most)  # type: ignore[operator]
    assert len(dealt) == len(sizes)
    assert sorted(set(dealt.tolist())) == list(range(dealt.max(initial=-1) + 1))
    for bin_ in range(dealt.max(initial=-1) + 1):
        mine = array[dealt == bin_]
        assert len(mine) <= most
        assert len(mine) == 1 or (mine + OVERHEAD).sum() <= 1_000_000


@pytest.mark.parametrize("count", [1, 12, 24, 40, 41, 120])
def test_equal_samples_take_as_few_shards_as_can_be_and_fill_them_alike(count: int) -> None:
    dealt = deal_evenly(np.full(count, 10), max_bytes=10**9, max_samples=12)
    counts = np.bincount(dealt)
    assert len(counts) == -(-count // 12)
    assert counts.max() - counts.min() <= 1


def test_skewed_sizes_fill_shards_alike() -> None:
    """Log-normal over four orders of magnitude, with a tail up to half a shard."""
    sizes = np.random.default_rng(0).lognormal(9, 2, 20_000).clip(100, 8_000_000).astype(np.int64)
    limits = {"max_bytes": 16_000_000, "max_samples": 10_000}
    even = np.bincount(deal_evenly(sizes, **limits), sizes + OVERHEAD)
    greedy = np.bincount(deal_in_order(sizes, **limits), sizes + OVERHEAD)
    assert even.min() > 0.95 * even.max()
    assert greedy.min() < 0.7 * greedy.max(), "or the sizes are not skewed enough to tell"
    assert len(even) <= len(greedy)


def test_in_order_keeps_the_order() -> None:
    dealt = deal_in_order(np.random.default_rng(1).integers(0, 500_000, 500), **LIMITS)
    assert (np.diff(dealt) >= 0).all()


def test_the_largest_are_placed_first_so_that_no_shard_more_is_needed() -> None:
    """In their order six of a third would leave no room for the last one anywhere."""
    sizes = np.array([300_000] * 6 + [800_000])
    dealt = deal_evenly(sizes, max_bytes=1_000_000, max_samples=100)
    assert sorted(np.bincount(dealt, weights=sizes).tolist()) == [800_000, 900_000, 900_000]
