from collections.abc import Iterator

import numpy as np
import pytest

from pipelines.stages import dedup
from pipelines.stages.dedup import components, keepers, near_pairs


def all_pairs(values: np.ndarray, distance: int) -> set[tuple[int, int]]:
    """By comparing everything with everything."""
    found = set()
    for i, a in enumerate(values):
        near = np.flatnonzero(np.bitwise_count(values[i + 1 :] ^ a) <= distance) + i + 1
        found |= {(min(int(a), int(values[j])), max(int(a), int(values[j]))) for j in near}
    return found


def planted(seed: int, count: int = 2000) -> np.ndarray:
    """Random fingerprints, and for half of them a copy with 1 to 12 bits turned over."""
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 2**64, count, np.uint64)
    copies = values[: count // 2].copy()
    for i in range(len(copies)):
        for bit in rng.choice(64, rng.integers(1, 13), replace=False):
            copies[i] ^= np.uint64(1) << np.uint64(bit)
    return np.unique(np.concatenate([values, copies]))


@pytest.mark.parametrize("distance", [1, 3, 6, 10])
@pytest.mark.parametrize("agreeing", [None, 1, 2, 3])
@pytest.mark.parametrize("held", [2**22, 700])
def test_every_near_pair_is_found_once_whatever_the_bands_and_parts(
    distance: int, agreeing: int | None, held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = planted(distance)
    monkeypatch.setattr(dedup, "HELD", held)
    monkeypatch.setattr(dedup, "CACHED", held // 14)
    if agreeing is not None:
        monkeypatch.setattr(dedup, "_bands_that_agree", lambda count, distance: agreeing)

    def blocks() -> Iterator[np.ndarray]:
        yield from np.array_split(values, 3)

    pairs = [
        pair
        for a, b in near_pairs(blocks, len(values), distance)
        for pair in zip(a.tolist(), b.tolist(), strict=False)
    ]
    assert len(pairs) == len(set(pairs))
    assert set(pairs) == all_pairs(values, distance)
    assert len(pairs) > 50, "or nothing was planted"


def test_who_is_dropped_is_near_somebody_who_stays() -> None:
    rng = np.random.default_rng(0)
    left, right = rng.integers(0, 300, (2, 400))
    left, right = left[left != right], right[left != right]
    kept = keepers(left, right, 300)
    edges = {frozenset(edge) for edge in zip(left.tolist(), right.tolist(), strict=False)}
    for node, keeper in enumerate(kept.tolist()):
        if keeper != node:
            assert kept[keeper] == keeper
            assert keeper < node
            assert frozenset((node, keeper)) in edges
    stay = np.flatnonzero(kept == np.arange(300)).tolist()
    assert not any(frozenset((a, b)) in edges for a in stay for b in stay)


def test_a_chain_keeps_every_second_link_and_is_one_cluster() -> None:
    links = np.arange(9)
    assert keepers(links, links + 1, 10).tolist() == [0, 0, 2, 2, 4, 4, 6, 6, 8, 8]
    assert components(links, links + 1, 10).tolist() == [0] * 10


def test_what_is_given_stays() -> None:
    given = np.array([True, True, False])
    assert keepers(np.array([0, 1]), np.array([1, 2]), 3, given).tolist() == [0, 1, 1]


def test_components_are_those_of_a_graph_library() -> None:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    left, right = np.random.default_rng(3).integers(0, 2000, (2, 1500))
    ours = components(left, right, 2000)
    _, theirs = connected_components(coo_array((np.ones(1500), (left, right)), (2000, 2000)), directed=False)
    assert len(set(ours.tolist())) == theirs.max() + 1
    assert len(set(zip(ours.tolist(), theirs.tolist(), strict=False))) == theirs.max() + 1
