"""Sorting what may be more than memory should hold."""

import heapq
import marshal
import os
import tempfile
from array import array
from collections.abc import Callable, Iterable, Iterator
from itertools import islice, pairwise
from pathlib import Path
from typing import IO, Any, Final, TypeVar

from pipelines.disk import TEMPORARY, told_when_full

T = TypeVar("T")
HELD: Final = 2**14  # sorted at once; of more, all waits in a temporary file
_BLOCK: Final = 16  # of each run in memory while they are merged: a hundred million are 6,000 runs


def in_order(
    items: Iterable[T],
    key: Callable[[T], Any],
    pack: Callable[[T], Any] = lambda item: item,
    unpack: Callable[[Any], T] = lambda packed: packed,
) -> Iterator[T]:
    """`items` sorted by `key`, when all of them have been taken.

    `pack` makes text, numbers and tuples of an item, for the disk, and `unpack` the item of these.
    """
    rest = iter(items)
    first, run = (sorted(islice(rest, HELD), key=key) for _ in range(2))
    if not run:
        return iter(first)
    with told_when_full(Path(tempfile.gettempdir()), TEMPORARY):
        file = tempfile.TemporaryFile(prefix="rayloom-sort-")  # noqa: SIM115 - it goes with its last reader
        runs = [_write(file, first, pack)]
        while run:
            runs.append(_write(file, run, pack))
            run = sorted(islice(rest, HELD), key=key)
        file.flush()
    return heapq.merge(*(_read(file, run, unpack) for run in runs), key=key)


def _write(file: IO[bytes], items: list[T], pack: Callable[[T], Any]) -> "array[int]":
    """Where each block of a run begins, and where the last ends."""
    places = array("Q", [file.tell()])
    for i in range(0, len(items), _BLOCK):
        file.write(marshal.dumps([pack(item) for item in items[i : i + _BLOCK]]))
        places.append(file.tell())
    return places


def _read(file: IO[bytes], places: "array[int]", unpack: Callable[[Any], T]) -> Iterator[T]:
    for start, end in pairwise(places):
        for packed in marshal.loads(os.pread(file.fileno(), end - start, start)):
            yield unpack(packed)
