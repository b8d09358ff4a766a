"""What the rows of a table are called that share a name: sorted on disk, so that none needs to be held."""

import re
from collections.abc import Iterable, Iterator
from itertools import chain, groupby, pairwise, repeat
from operator import itemgetter
from typing import NamedTuple, TypeVar

from modalities.base import Modality
from pipelines.sources.matching import find_pattern
from pipelines.sources.sorting import in_order

T = TypeVar("T")
_BITS = 40  # of a row
_AGAIN, _MARKED = -1, 0  # in place of a row: before the rows they tell of


class Named(NamedTuple):
    """A row, from 1 on. place: of its object, if the group depends on it. again: what `come_again` says."""

    row: int
    name: str
    place: str
    again: bool


def come_again(names: Iterable[str]) -> Iterator[int]:
    """Rows of names that more than one row has, in order.

    Names are told apart by hashes: a row that is taken for another's twin only goes a longer way.
    """

    def found() -> Iterator[int]:
        alone = True
        hashes = in_order((hash(name) << _BITS | row for row, name in enumerate(names, 1)), int)
        for one, following in pairwise(hashes):
            same = one >> _BITS == following >> _BITS
            if same and alone:
                yield one % 2**_BITS
            if same:
                yield following % 2**_BITS
            alone = not same

    return in_order(found(), int)


def by_row(found: Iterable[tuple[int, T]], otherwise: T) -> Iterator[T]:
    """What was found for each row, without end."""
    at = 1
    for row, one in found:
        yield from repeat(otherwise, row - at)
        yield one
        at = row + 1
    yield from repeat(otherwise)


def numbers(rows: Iterable[Named], modality: Modality) -> Iterator[tuple[int, tuple[int, int]]]:
    """Rows, in order, with what `numbered` makes their names unique by, and the rank of their objects.

    Names go to who comes first, so that a row more renames none before it. rank: of an object among those of
    its name, in the order of their first rows; 0 without a place. Rows of two ones may be left out.
    """

    def alike() -> Iterator[tuple[str, int, str, str]]:
        told = None
        for row, name, place, again in rows:
            root = _root(name, modality)
            if again and root != told:
                yield (told := root), _AGAIN, "", ""
            if name != root:
                yield root, _MARKED, name, ""
            if again or name != root:
                yield root, row, name, place

    def firsts(claimed: Iterable[tuple[str, str, int, int]]) -> Iterator[tuple[str, int, int, int]]:
        for (name, place), same in groupby(in_order(claimed, itemgetter(0, 1, 2)), itemgetter(0, 1)):
            first = 0
            for *_, row, number in same:
                first = first or row
                yield name, first if place else 0, row, number

    def ranked(placed: Iterable[tuple[str, int, int, int]]) -> Iterator[tuple[int, tuple[int, int]]]:
        for _, objects in groupby(in_order(placed, itemgetter(0, 1, 2)), itemgetter(0)):
            rank = last = 0
            for _, first, row, number in objects:
                rank, last = rank + (first != last), first
                if number > 1 or rank > 1:
                    yield row, (number, rank)

    def found() -> Iterator[tuple[int, tuple[int, int]]]:
        for below, some in groupby(in_order(alike(), itemgetter(0, 1)), lambda item: "/" in item[0]):
            roots = groupby(some, itemgetter(0))
            claimed = chain.from_iterable(_claimed(group, modality) for _, group in roots)
            if below:  # without places
                yield from ((row, (number, 0)) for *_, row, number in claimed if number > 1)
            else:
                yield from ranked(firsts(claimed))

    return in_order(found(), itemgetter(0))


def _claimed(
    rows: Iterator[tuple[str, int, str, str]], modality: Modality
) -> Iterator[tuple[str, str, int, int]]:
    """Name, place, row and number of the rows of a root; nothing where all their names differ.

    Of the names that are taken only those are held that a row has by itself; the others are counted.
    """
    if next(rows)[1] != _AGAIN:
        return
    marked, taken = False, dict[str, bool]()  # so far, of the names that a row has by itself
    last: dict[str, int] = {}  # number of a series; all before it are taken
    for _, row, name, place in rows:
        if row == _AGAIN:
            continue
        if row == _MARKED:
            marked = True
            taken[name] = False
            continue
        candidate, number = name, 1
        if taken.get(name):
            series = numbered(name, 0, modality) if marked else ""
            number = last.get(series, 1)
            while taken.get(candidate):
                number += 1
                candidate = numbered(name, number, modality) if marked else ""
            last[series] = number
        if number == 1 or candidate in taken:
            taken[candidate] = True
        yield name, place, row, number


def numbered(name: str, number: int, modality: Modality) -> str:
    """Another name that the modality reads as it reads this one."""
    path = name.rstrip("/")
    folder, slash, base = path.rpartition("/")
    stem, dot, suffix = base.partition(".")
    if _is_whole(base, modality):
        return f"{folder or stem}~{number}/{base}"
    return f"{folder}{slash}{stem}~{number}{dot}{suffix}{name[len(path) :]}"


def _root(name: str, modality: Modality) -> str:
    """The name without numbers: one of all names that any of them may be numbered to."""
    folder, slash, base = name.rpartition("/")
    stem, dot, suffix = base.partition(".")
    if not _is_whole(base, modality):
        return f"{folder}{slash}{_unmarked(stem)}{dot}{suffix}"
    place = _unmarked(folder or stem)
    return base if place == stem else f"{place}/{base}"


def _is_whole(base: str, modality: Modality) -> bool:
    return "*" not in (find_pattern(base, modality) or "*")


def _unmarked(text: str) -> str:
    marks = "~" in text and _MARKS(text[::-1])  # backwards, where they begin
    return text[: len(text) - marks.end()] if marks else text


_MARKS = re.compile(r"(?:[0-9]+~)+").match
