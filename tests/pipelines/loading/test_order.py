"""The order of an epoch: pure, whole, bounded, and found at any place."""

import tracemalloc
from collections import Counter

import numpy as np
import pytest

from pipelines.loading.order import EpochOrder, sample_rng

SIZES = [7, 1, 12, 5, 0, 9, 3, 8, 8, 2]


def order(sizes: list[int] = SIZES, **options: object) -> EpochOrder:
    return EpochOrder(sizes, **({"name": "digest/0", "epoch": 0, "open_shards": 3} | options))  # type: ignore[arg-type]


def whole(order: EpochOrder) -> list[tuple[int, int]]:
    shards, rows = order.locate(np.arange(order.total))
    return list(zip(shards.tolist(), rows.tolist(), strict=True))


def everything(sizes: list[int]) -> Counter[tuple[int, int]]:
    return Counter((shard, row) for shard, size in enumerate(sizes) for row in range(size))


@pytest.mark.parametrize("open_shards", [1, 2, 3, 10, 50, None])
def test_every_sample_comes_once(open_shards: int | None) -> None:
    assert Counter(whole(order(open_shards=open_shards))) == everything(SIZES)


def test_the_order_depends_on_digest_seed_and_epoch() -> None:
    names = [{}, {"name": "other/0"}, {"name": "digest/1"}, {"epoch": 1}]
    assert len({tuple(whole(order(**name))) for name in names}) == 4


def test_any_place_is_found_without_those_before() -> None:
    expected = whole(order())
    for place in (0, 17, 31, 54):
        shard, row = order().locate(np.array([place]))
        assert (int(shard[0]), int(row[0])) == expected[place]


@pytest.mark.parametrize("open_shards", [1, 3, 4])
def test_no_more_shards_are_open_than_allowed(open_shards: int) -> None:
    one = order([10] * 23, open_shards=open_shards)
    shards = [shard for shard, _ in whole(one)]
    last = {shard: place for place, shard in enumerate(shards)}
    now: set[int] = set()
    for place, shard in enumerate(shards):
        now.add(shard)
        assert len(now) <= open_shards
        assert shard in one.block_shards(one.block(place))
        now -= {shard for shard in now if last[shard] == place}


def test_without_shuffling_the_order_is_the_manifests() -> None:
    assert whole(order(shuffle=False)) == sorted(whole(order()))


def test_quality_is_one_for_a_full_shuffle_and_nothing_for_none() -> None:
    assert order(open_shards=None).quality == pytest.approx(1)
    assert order(open_shards=1).quality == order(shuffle=False).quality == 0
    assert 0.3 < order([10] * 100, open_shards=10).quality == pytest.approx(0.5)


def test_quality_says_what_the_sequence_does() -> None:
    """The entropy of the shard, measured on neighbourhoods of the sequence itself, many epochs long."""
    sizes = [50] * 32
    one = order(sizes, open_shards=4)
    shards = np.array([[shard for shard, _ in whole(order(sizes, open_shards=4))]]).reshape(8, 200)
    measured = []
    for part in shards:
        shares = np.unique(part, return_counts=True)[1] / 200
        measured.append(-(shares * np.log(shares)).sum())
    assert one.quality == pytest.approx(np.mean(measured) / np.log(32), rel=1e-6)


def test_a_billion_samples_need_memory_for_their_shards_only() -> None:
    sizes = np.full(100_000, 10_000)
    tracemalloc.start()
    try:
        one = EpochOrder(sizes, name="digest/0", epoch=3, open_shards=16)
        shards, rows = one.locate(np.arange(777_777_000, 777_777_256))
        assert tracemalloc.get_traced_memory()[1] < 150 * len(sizes)
    finally:
        tracemalloc.stop()
    assert len({*zip(shards.tolist(), rows.tolist(), strict=True)}) == 256
    assert set(shards.tolist()) <= set(one.block_shards(one.block(777_777_000)).tolist())


def test_places_outside_the_epoch_are_refused() -> None:
    with pytest.raises(IndexError, match=r"places must be in \[0, 55\), got 55..55"):
        order().locate(np.array([55]))


def test_a_samples_randomness_depends_on_seed_epoch_and_key_alone() -> None:
    draws = {sample_rng(*name).random() for name in ((0, 0, "a"), (1, 0, "a"), (0, 1, "a"), (0, 0, "b"))}
    assert len(draws) == 4
    assert sample_rng(0, 0, "a").random() in draws
