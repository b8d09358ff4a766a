"""Samples to shards: every shard within its limits, and about as full as its neighbours."""

import heapq

import numpy as np
from numpy.typing import NDArray

OVERHEAD = 2048  # bytes of headers and padding that a sample takes in a tar, about
FULL = 2**40  # what a shard holds: a sample takes its share of the bytes or of the count, whichever is more
LARGE = FULL // 64  # samples that are placed one by one


def shares(sizes: NDArray[np.int64], *, max_bytes: int, max_samples: int) -> NDArray[np.int64]:
    """Of a shard, in units of 1/FULL. A sample larger than a shard takes a whole one."""
    by_size = np.minimum((sizes + OVERHEAD) / max_bytes, 1.0) * FULL
    return np.maximum(by_size.astype(np.int64), FULL // max_samples)


def deal_evenly(sizes: NDArray[np.int64], *, max_bytes: int, max_samples: int) -> NDArray[np.int64]:
    """A bin for each sample, (n,), as few bins as their shares ask for, or a few more.

    Large samples go one by one to the emptiest bin, the largest first (Graham, 1969, "Bounds on
    multiprocessing timing anomalies"); small ones fill all bins to one level, in their order.
    """
    if not len(sizes):
        return np.empty(0, np.int64)
    parts = shares(sizes, max_bytes=max_bytes, max_samples=max_samples)
    total = int(parts.sum())
    bins = max(1, -(-total // FULL))
    while True:
        dealt = _into(parts, bins)
        count = np.bincount(dealt, minlength=bins)
        size = np.bincount(dealt, weights=(sizes + OVERHEAD).astype(np.float64), minlength=bins)
        if ((count <= max_samples) & ((size <= max_bytes) | (count == 1))).all():
            used = np.flatnonzero(count)
            return np.searchsorted(used, dealt).astype(np.int64)
        bins += max(1, bins // 64)


def _into(parts: NDArray[np.int64], bins: int) -> NDArray[np.int64]:
    dealt = np.empty(len(parts), np.int64)
    loads = np.zeros(bins, np.int64)
    large = np.flatnonzero(parts > LARGE)
    heap = [(0, i) for i in range(bins)]
    for i in large[np.argsort(-parts[large], kind="stable")].tolist():
        load, chosen = heap[0]
        dealt[i] = chosen
        loads[chosen] = load + int(parts[i])
        heapq.heapreplace(heap, (int(loads[chosen]), chosen))
    small = np.flatnonzero(parts <= LARGE)
    if len(small):
        ends = np.cumsum(_room(loads, int(parts[small].sum())))
        middles = np.cumsum(parts[small]) - parts[small] // 2
        dealt[small] = np.minimum(np.searchsorted(ends, middles, side="right"), bins - 1)
    return dealt


def _room(loads: NDArray[np.int64], total: int) -> NDArray[np.int64]:
    """How much each bin takes of `total` so that all end at one level, or above it from the start."""
    ordered = np.sort(loads)
    lower = np.cumsum(ordered)
    counts = np.arange(1, len(loads) + 1)
    levels = (total + lower) // counts  # if only the emptiest i bins take any
    fits = levels <= np.append(ordered[1:], np.iinfo(np.int64).max)
    level = int(levels[int(np.argmax(fits))])
    return np.maximum(level - loads, 0)


def deal_in_order(sizes: NDArray[np.int64], *, max_bytes: int, max_samples: int) -> NDArray[np.int64]:
    """A bin for each sample, (n,): each bin is filled before the next, and the order stays as it is."""
    ends = np.cumsum(sizes + OVERHEAD)
    dealt = np.empty(len(sizes), np.int64)
    start = bins = 0
    while start < len(sizes):
        before = int(ends[start - 1]) if start else 0
        stop = int(np.searchsorted(ends, before + max_bytes, side="right"))
        stop = min(max(stop, start + 1), start + max_samples)
        dealt[start:stop] = bins
        start, bins = stop, bins + 1
    return dealt
