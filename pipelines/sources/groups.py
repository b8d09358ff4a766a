"""What of a folder may belong together, by names: so that of a large one a part is looked at at a time."""

import re
from collections.abc import Callable, Iterable, Iterator
from fnmatch import translate
from itertools import chain, groupby, islice
from operator import itemgetter
from typing import NamedTuple

from modalities.base import Modality
from pipelines.sources import sorting
from pipelines.sources.matching import SIDECARS, companion_globs, find_pattern, is_hidden, is_wild, stem_of
from pipelines.sources.sorting import in_order
from pipelines.sources.stores import Node, make_unique, twins_among

_ENDS = r"((?:\.[^.*?\[/]+)*)"
_MARKS = re.compile(r"(?!^)(?:~(?:[1-9]\d*|[0-9a-f]{10}))+$")  # by which `make_unique` tells names apart
_Keyed = tuple[str, str, Node]  # stem, name
TOGETHER = ""  # no name's stem


class Reach(NamedTuple):
    """What of a folder's names tells which files may belong together.

    ends: what may follow a stem, between dots: of "*.pcd.bin" it is pcd and bin. far: patterns of objects
    to which others may belong that do not have their stem.
    """

    ends: frozenset[str]
    far: frozenset[str]

    def stem(self, name: str) -> str:
        """The same of all that belong together, but for `far`: the name without ends, whatever its case."""
        name = name.casefold()
        while (split := name.rpartition("."))[2] in self.ends and split[1]:
            name = split[0]
        return name

    def plain_stem(self, name: str) -> str:
        """The same also of all names that `make_unique` may turn into one another."""
        first, dot, rest = name.casefold().partition(".")
        return self.stem(_MARKS.sub("", first) + dot + rest)


def reach_of(modality: Modality) -> Reach:
    """Of files and folders of a modality, and of sidecars."""
    ends, far = {end for name in SIDECARS for end in name.split(".")}, set[str]()
    for pattern in modality.patterns:
        inside = pattern.endswith("/")  # and so is what its globs take
        globs = [] if inside else modality.companions.get(pattern, ())
        found = [re.fullmatch(rf"\*{_ENDS}", pattern.rstrip("/"))]
        found += [re.fullmatch(rf"\{{stem\}}{_ENDS}(/.*)?", glob) for glob in globs]
        if all(found):
            ends |= {end for match in found if match for end in match[1].casefold().split(".") if end}
        else:
            far.add(pattern)
    return Reach(frozenset(ends), frozenset(far))


def visible(nodes: Iterable[Node]) -> Iterator[Node]:
    return (node for node in nodes if not is_hidden(node.name))


def groups(nodes: Iterable[Node], modality: Modality) -> Iterable[list[Node]]:
    """The nodes of one folder, unique, all together; of a large one together what may belong together."""
    rest = iter(nodes)
    if len(few := list(islice(rest, sorting.HELD + 1))) <= sorting.HELD:
        return [make_unique(few)]
    return (group for _, group in by_stem(chain(few, rest), modality, reach_of(modality)))


def by_stem(nodes: Iterable[Node], modality: Modality, reach: Reach) -> Iterator[tuple[str, list[Node]]]:
    """The nodes of one folder, unique, by stems: plain ones where names may turn into one another.

    At the end, TOGETHER: all that has the stem of an object that reaches further, or of what such a one may
    take. That is mostly one sample, and one is held as a whole anyway.
    """
    odd, far = False, dict[tuple[str, str], None]()  # of the second, name and pattern

    def keyed() -> Iterator[_Keyed]:
        nonlocal odd
        for node in nodes:
            odd = odd or bool(node.told) or node.refusal is not None or "\\x" in node.name
            if reach.far and (pattern := find_pattern(name := _full(node), modality)) in reach.far:
                far[name, str(pattern)] = None
            yield reach.stem(node.name), node.name, node

    found, twins, bound = _sorted(keyed()), set[str](), set[str]()
    if odd or far:
        bound = {reach.plain_stem(one) for name, pattern in far for one in (name, stem_of(name, pattern))}
        found = _sorted(_looked_through(found, reach, _heads(far, modality), twins, bound))
    return _grouped(found, twins, bound)


def _full(node: Node) -> str:
    return node.name + "/" * node.is_folder


def _heads(far: Iterable[tuple[str, str]], modality: Modality) -> Callable[[str], object]:
    """Whether a file or folder of this name, in lower case, may belong to one of these objects."""
    globs = {
        glob.partition("/")[0]
        for name, pattern in far
        if not pattern.endswith("/")
        for glob in companion_globs(pattern, stem_of(name, pattern), modality)
    }
    wild = {glob for glob in globs if is_wild(glob)}
    match = re.compile("|".join(map(translate, sorted(wild))) or "(?!)").match
    return lambda name: name in globs or match(name)


def _looked_through(
    found: Iterable[_Keyed],
    reach: Reach,
    takes: Callable[[str], object],
    twins: set[str],
    bound: set[str],
) -> Iterator[_Keyed]:
    """The same with stems of which the marks are gone; `twins` and stems that are `bound` are noted."""
    for _, alike in groupby(found, key=itemgetter(1)):
        nodes = [node for *_, node in alike]
        twins |= twins_among(nodes)
        for node in nodes:
            stem = reach.plain_stem(node.name)
            if takes(node.name.lower()):
                bound.add(stem)
            yield stem, node.name, node


def _grouped(found: Iterable[_Keyed], twins: set[str], bound: set[str]) -> Iterator[tuple[str, list[Node]]]:
    together: list[Node] = []
    for stem, group in groupby(found, key=itemgetter(0)):
        nodes = [node for *_, node in group]
        if stem in bound:
            together += nodes
        else:
            yield stem, make_unique(nodes, twins)
    if together:
        yield TOGETHER, make_unique(together, twins)


def _sorted(keyed: Iterable[_Keyed]) -> Iterator[_Keyed]:
    return in_order(
        keyed, itemgetter(0, 1), lambda one: (*one[:2], tuple(one[2])),
        lambda packed: (*packed[:2], Node._make(packed[2])),
    )  # fmt: skip
