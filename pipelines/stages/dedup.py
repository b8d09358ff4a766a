"""Near-duplicates by 64-bit fingerprints: all pairs within a Hamming distance, and who stays of them."""

from collections.abc import Callable, Iterable, Iterator
from itertools import combinations, pairwise, product
from math import comb
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.uint64]
Ints = NDArray[np.int64]
BITS = 64
MAX_DISTANCE = 16
HELD = 2**22  # fingerprints looked at together
CACHED = 2**15  # of them compared together, in the processor's cache


def near_pairs(
    blocks: Callable[[], Iterator[Values]],
    count: int,
    distance: int,
    spread: Callable[..., Iterable[Any]] = map,
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
    edges = _edges(distance + agreeing)
    bands = np.array([(1 << high) - (1 << low) for low, high in pairwise(edges)], np.uint64)
    parts = -(-count // HELD)

    def find(choice: tuple[tuple[int, ...], int]) -> list[tuple[Values, Values]]:
        chosen, part = choice
        moves, key_bits = _moves(edges, chosen)
        back = [(to, low, width) for low, to, width in moves]
        values = _moved(_part(blocks, part, parts, np.bitwise_or.reduce(bands[list(chosen)])), moves)
        values.sort()  # six times as fast as to find the order of masked values
        found = []
        for a, b in _agreeing(values, key_bits, distance):
            a, b = _moved(a, back), _moved(b, back)
            mine = _first_agreeing(a ^ b, bands, agreeing, chosen)
            if mine.any():
                a, b = a[mine], b[mine]
                found.append((np.minimum(a, b), np.maximum(a, b)))
        return found

    for pairs in spread(find, product(combinations(range(len(bands)), agreeing), range(parts))):
        yield from pairs


def _bands_that_agree(count: int, distance: int) -> int:
    """The r that costs least: sorting for each choice of bands, and comparing within buckets."""

    def cost(r: int) -> float:  # in ns, as measured
        key_bits = r * BITS // (distance + r)
        return comb(distance + r, r) * count * (80.0 + 12.0 * count / 2.0 ** (key_bits + 1))

    return min(range(1, 6), key=cost)


def _edges(count: int) -> list[int]:
    """Of so many bands that share the 64 bits out."""
    return [round(i * BITS / count) for i in range(count + 1)]


Moves = list[tuple[int, int, int]]  # bits from, to, how many


def _moves(edges: list[int], chosen: tuple[int, ...]) -> tuple[Moves, int]:
    """A permutation of the bits that puts the chosen bands highest, and how many bits they have."""
    moves: Moves = []
    top = BITS
    for wanted in (True, False):
        for band, (low, high) in enumerate(pairwise(edges)):
            if (band in chosen) is wanted:
                top -= high - low
                moves.append((low, top, high - low))
    return moves, sum(edges[band + 1] - edges[band] for band in chosen)


def _moved(values: Values, moves: Moves) -> Values:
    moved = np.zeros_like(values)
    for low, to, width in moves:
        moved |= ((values >> np.uint64(low)) & np.uint64((1 << width) - 1)) << np.uint64(to)
    return moved


def mixed(values: Values) -> Values:
    """A bijection that spreads whatever bits differ over all bits (the finalizer of splitmix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Values = values ^ (values >> np.uint64(31))
    return mixed


def _part(blocks: Callable[[], Iterator[Values]], part: int, parts: int, mask: np.uint64) -> Values:
    """Of so many parts one: all fingerprints that agree under the mask are in the same."""
    found = [block if parts == 1 else block[_parted(block & mask, parts) == part] for block in blocks()]
    return np.concatenate(found) if found else np.empty(0, np.uint64)


def _parted(keys: Values, parts: int) -> Values:
    """A part for each key, by the high bits of a product (Knuth, volume 3, 6.4)."""
    numbers: Values = ((keys * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)) * np.uint64(parts)
    return numbers >> np.uint64(32)


def _agreeing(values: Values, key_bits: int, distance: int) -> Iterator[tuple[Values, Values]]:
    """Pairs of sorted values that agree in their highest bits, at most `distance` bits apart."""
    rest = np.uint64((1 << (BITS - key_bits)) - 1)
    start = 0
    while start < len(values):
        last = values[min(start + CACHED, len(values)) - 1] | rest  # of those that agree with it
        end = int(np.searchsorted(values, last, side="right"))
        group, keys = values[start:end], values[start:end] >> np.uint64(BITS - key_bits)
        left = np.arange(len(group))
        step = 1
        while len(left := left[left + step < len(group)]):
            left = left[keys[left] == keys[left + step]]
            near = left[np.bitwise_count(group[left] ^ group[left + step]) <= distance]
            if len(near):
                yield group[near], group[near + step]
            step += 1
        start = end


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


def settled(
    prints: Values, nodes: Values, order: Ints, keeper: Ints, root: Ints
) -> tuple[Ints, Ints, NDArray[np.bool_]]:
    """What stays instead of each row, the root of its cluster, and whether it stays itself.

    Rows are sorted by fingerprint, the preferred one of each first. nodes: fingerprints that are near others,
    sorted; `order` says where each stands among the nodes in order of preference, which `keeper` and `root`
    speak of. What is named is a row, or one of these nodes: they stand behind the rows.
    """
    places = np.arange(len(prints))
    first = np.maximum.accumulate(np.where(starts(prints), places, 0))
    linked = is_in(prints, nodes)
    node = np.append(order, 0)[np.where(linked, np.searchsorted(nodes, prints), len(order))]
    keeper, root = np.append(keeper, 0), np.append(root, 0)
    chosen = np.where(linked, len(places) + keeper[node], first)
    roots = np.where(linked, len(places) + root[node], first)
    stays = (places == first) & (~linked | (keeper[node] == node))
    return chosen, roots, stays


def starts(*columns: NDArray[Any]) -> NDArray[np.bool_]:
    """Where sorted rows differ from the row before."""
    found = np.ones(len(columns[0]), bool)
    found[1:] = np.logical_or.reduce([column[1:] != column[:-1] for column in columns])
    return found


def is_in(values: Values, ordered: Values) -> NDArray[np.bool_]:
    """Which values are among the sorted ones."""
    if not len(ordered):
        return np.zeros(len(values), bool)
    found: NDArray[np.bool_] = (
        ordered[np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)] == values
    )
    return found


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
