"""Near-duplicates by 64-bit fingerprints: all pairs within a Hamming distance, and who stays of them."""

from collections.abc import Callable, Iterable, Iterator
from itertools import combinations, pairwise, product
from math import comb
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.uint64]
BITS = 64
MAX_DISTANCE = 16
HELD = 2**22  # fingerprints looked at together


def near_pairs(
    blocks: Callable[[], Iterator[Values]], count: int, distance: int, spread: Callable[..., Iterable[Any]] = map
) -> Iterator[tuple[Values, Values]]:
    """Pairs (a, b), a < b, of different fingerprints at most `distance` bits apart: all of them, each once.

    `blocks` gives the `count` different fingerprints in parts, as often as it is called. The bits are cut
    into `distance` + r bands; two fingerprints that near agree in r of them at least, so those that agree in
    r bands are compared, for each choice of r. After Norouzi, Punjani and Fleet, "Fast exact search in
    Hamming space with multi-index hashing", 2014, which has r = 1; a larger r makes the bands' keys longer,
    and the buckets of a large set small. `spread` maps over the choices, perhaps by threads. Memory, of each:
    HELD fingerprints, and what they are paired with.
    """
    if not 0 < distance <= MAX_DISTANCE:
        raise ValueError(f"distance must be from 1 to {MAX_DISTANCE} bits, got {distance}")
    agreeing = _bands_that_agree(count, distance)
    bands = _bands(distance + agreeing)
    parts = -(-count // HELD)

    def find(choice: tuple[tuple[int, ...], int]) -> list[tuple[Values, Values]]:
        chosen, part = choice
        mask = np.bitwise_or.reduce(bands[list(chosen)])
        found = []
        for a, b in _agreeing(_part(blocks, part, parts, mask), mask, distance):
            mine = _first_agreeing(a ^ b, bands, agreeing, chosen)
            if mine.any():
                a, b = a[mine], b[mine]
                found.append((np.minimum(a, b), np.maximum(a, b)))
        return found

    for pairs in spread(find, product(combinations(range(len(bands)), agreeing), range(parts))):
        yield from pairs


def _bands_that_agree(count: int, distance: int) -> int:
    """The r that costs least: sorting for each choice of bands, and comparing within buckets."""

    def cost(r: int) -> float:
        key_bits = r * BITS // (distance + r)
        return comb(distance + r, r) * (100.0 * count + 3.0 * count * (count / 2.0 ** (key_bits + 1)))

    return min(range(1, 6), key=cost)


def _bands(count: int) -> Values:
    """Masks that share the 64 bits out."""
    edges = [round(i * BITS / count) for i in range(count + 1)]
    masks = [(1 << high) - (1 << low) for low, high in pairwise(edges)]
    return np.array(masks, np.uint64)


def mixed(values: Values) -> Values:
    """A bijection that spreads whatever bits differ over all bits (the finalizer of splitmix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Values = values ^ (values >> np.uint64(31))
    return mixed


def _part(blocks: Callable[[], Iterator[Values]], part: int, parts: int, mask: np.uint64) -> Values:
    """Of so many parts one: all fingerprints that agree under the mask are in the same."""
    found = [
        block if parts == 1 else block[mixed(block & mask) % np.uint64(parts) == part] for block in blocks()
    ]
    return np.concatenate(found) if found else np.empty(0, np.uint64)


def _agreeing(values: Values, mask: np.uint64, distance: int) -> Iterator[tuple[Values, Values]]:
    keys = values & mask
    order = np.argsort(keys)
    keys, values = keys[order], values[order]
    left = np.arange(len(keys))
    step = 1
    while len(left := left[left + step < len(keys)]):
        left = left[keys[left] == keys[left + step]]
        near = left[np.bitwise_count(values[left] ^ values[left + step]) <= distance]
        if len(near):
            yield values[near], values[near + step]
        step += 1


def _first_agreeing(
    differing: Values, bands: Values, agreeing: int, chosen: tuple[int, ...]
) -> NDArray[np.bool_]:
    """Whether `chosen` are the first bands that a pair agrees in: it is found there, and not again."""
    agrees = (differing[:, None] & bands) == 0
    agrees &= agrees.cumsum(axis=1) <= agreeing
    wanted = np.zeros(len(bands), bool)
    wanted[list(chosen)] = True
    first: NDArray[np.bool_] = (agrees == wanted).all(axis=1)
    return first


def keepers(
    left: NDArray[np.int64], right: NDArray[np.int64], count: int, given: NDArray[np.bool_] | None = None
) -> NDArray[np.int64]:
    """For each of `count` nodes in order of preference: itself if it stays, else the first near it that does.

    left, right: the edges. `given` nodes stay whatever is near them; the rest stay when nothing kept is near.
    No node goes without a neighbour that stays, so that a chain of small differences loses nothing new.
    """
    both = np.concatenate([np.stack([left, right]), np.stack([right, left])], axis=1)
    order = np.lexsort((both[1], both[0]))
    source, target = both[0][order], both[1][order]
    starts = np.searchsorted(source, np.arange(count + 1))
    kept = np.arange(count)
    stays = np.ones(count, bool)
    fixed = np.zeros(count, bool) if given is None else given
    for node in np.flatnonzero(np.diff(starts)).tolist():
        near = target[starts[node] : starts[node + 1]]
        better = near[(near < node) & stays[near]]
        if len(better) and not fixed[node]:
            kept[node], stays[node] = better[0], False
    return kept


def components(left: NDArray[np.int64], right: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """The smallest node that each of `count` nodes is connected with, by label propagation."""
    smallest = np.arange(count)
    while True:
        low = np.minimum(smallest[left], smallest[right])
        after = smallest.copy()
        for ends in (left, right, smallest[left], smallest[right]):
            np.minimum.at(after, ends, low)
        after = after[after]
        if (after == smallest).all():
            return smallest
        smallest = after
