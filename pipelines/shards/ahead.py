"""Reading ahead: several waits at a time, results in order, few of them held."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
U = TypeVar("U")
THREADS = 8
CORES = min(THREADS, os.cpu_count() or 1)  # threads where there is work to do and nothing to wait for


def ahead(function: Callable[[T], U], items: Iterable[T], threads: int = THREADS) -> Iterator[U]:
    """`map(function, items)` by threads, at most 2 * threads results ahead of who takes them; 1: by none."""
    if threads == 1:
        yield from map(function, items)
        return
    rest = iter(items)
    with ThreadPoolExecutor(threads) as pool:
        under_way: deque[Future[U]] = deque(pool.submit(function, item) for item in islice(rest, 2 * threads))
        try:
            while under_way:
                result = under_way.popleft().result()
                under_way.extend(pool.submit(function, item) for item in islice(rest, 1))
                yield result
        finally:
            for future in under_way:
                future.cancel()
