"""A folder, walked in the order of its names: one in memory at a time, and of a large one a part."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice
from operator import itemgetter
from typing import NamedTuple

from modalities.base import Modality
from pipelines.answers import STORE_FAILED
from pipelines.disk import FULL
from pipelines.sources import sorting
from pipelines.sources.entry import Entry, Part, refused
from pipelines.sources.groups import groups, visible
from pipelines.sources.matching import (
    claim,
    companion_globs,
    compile_glob,
    find_pattern,
    find_sidecars,
    fits,
    is_ignored,
    lone_extensions,
    lone_objects,
    stem_of,
)
from pipelines.sources.names import Listing, Names
from pipelines.sources.sorting import in_order
from pipelines.sources.stores import Mixed, Node, Store, make_unique

MAX_DEPTH = 64
COMPRESSED = (".tar.gz", ".tgz", ".tar.zst", ".tzst", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.lz4")
Expand = Callable[[Node, str], Iterator[Entry]]


def part_of(node: Node) -> Part:
    return Part(node.uri, node.size, version=node.version)


@dataclass(frozen=True, kw_only=True)
class Folder:
    """A root on a store, and what counts as an object below it.

    glob: relative to the root; None lists everything but the few names nobody means as data.
    expand: lists a tar in place, given its node and its name in the source.
    """

    store: Store
    root: str
    modality: Modality
    expand: Expand
    glob: str | None = None
    only: str | None = None  # the one name in the root that is listed: a source that is a single file

    def walk(self) -> Iterator[Listing]:
        """Entries sorted by name; files that stand for themselves may be named only."""
        yield from self._walk(_Below(self.root), "", 0)

    def objects_of(self, nodes: list[Node]) -> Iterator[Entry]:
        """The objects of the root itself, of what was found in it; folders below not entered."""
        files = {node.name: node for node in nodes if not node.is_folder}
        folders = {node.name: node for node in nodes if node.is_folder}
        return self._objects(files, folders, "", defaultdict(set))

    def root_has_objects(self) -> bool:
        """Whether an object lies in the root itself, not in a folder below.

        What belongs to another has that beside it, so that names need not be seen together.
        """
        for node in visible(self.store.scan(self.root)):
            name = node.name + "/" * node.is_folder
            known = find_pattern(name, self.modality) is not None
            if self._is_wanted(name) and (known or not (node.is_folder or name.lower().endswith(".tar"))):
                return True
        return False

    def _walk(self, folder: "_Below", prefix: str, depth: int) -> Iterator[Listing]:
        try:
            if (named := self._named(folder, prefix)) is None:
                parts = groups(visible(self.store.scan(folder.uri)), self.modality)
        except STORE_FAILED:
            raise
        except OSError as error:
            if error.errno in FULL:  # of the disk that sorts
                raise
            yield refused(prefix, "unreadable", f"the folder cannot be listed: {error}", uri=folder.uri)
            return
        if named is not None:
            yield from named
            return
        inner = _Claims(set)
        for below, slash, name in (claimed.partition("/") for claimed in folder.claimed):
            if slash:
                inner[below].add(name)
        found = chain.from_iterable(self._found(nodes, prefix, folder.claimed, inner) for nodes in parts)
        for name, one in in_order(found, itemgetter(0), _packed, _unpacked):
            if isinstance(one, Entry):
                if one.refusal is None and self._is_tar(one):
                    yield from self.expand(_node_of(one), one.name)
                else:
                    yield one
            elif depth < MAX_DEPTH:
                yield from self._walk(one, name, depth + 1)
            else:
                yield refused(name, "unsafe", f"deeper than {MAX_DEPTH} folders", uri=one.uri)

    def _found(
        self, nodes: list[Node], prefix: str, claimed: frozenset[str], inner: "_Claims"
    ) -> "list[tuple[str, Entry | _Below]]":
        """Entries and folders below, each with what it is sorted by. inner: what is `claimed` in these."""
        if not claimed and (plain := self._plain(nodes, prefix)) is not None:
            return [(entry.name, entry) for entry in plain]
        files = {n.name: n for n in nodes if not n.is_folder and n.name not in claimed}
        folders = {n.name: n for n in nodes if n.is_folder}
        if twins := next((n.refusal for n in folders.values() if n.refusal is not None), None):
            raise ValueError(twins[1])
        names = {prefix + n.name: prefix + n.told for n in files.values() if n.told}
        claims = _Claims(set, {name: set(inner[name]) for name in folders if name in inner})
        found = self._objects(files, folders, prefix, claims)
        entries = [called(e, names.get(e.name, e.name)) for e in found] if names else list(found)
        whole = {entry.name for entry in entries}
        below = {
            f"{prefix}{n}/": _Below(node.uri, frozenset(claims.get(n, ()))) for n, node in folders.items()
        }
        return [
            *((_order(entry.name), entry) for entry in entries),
            *((name, one) for name, one in below.items() if name not in whole),
        ]

    @cached_property
    def _lone(self) -> dict[str, bool]:
        return lone_extensions(self.modality)

    def _named(self, folder: "_Below", prefix: str) -> Iterator[Names] | None:
        """All objects of a folder, as `_walk` would find them, if their names say which these are."""
        if self.only is not None or self.glob is not None or folder.claimed or not self._lone:
            return None
        try:
            alone = in_order(chain.from_iterable(self._lone_names(folder.uri)), itemgetter(0))
        except Mixed:
            return None
        lots = iter(lambda: list(islice(alone, sorting.HELD)), [])
        return (Names(folder.uri, prefix, [n for n, _ in lot], [stem for _, stem in lot]) for lot in lots)

    def _lone_names(self, folder: str) -> Iterator[Iterator[tuple[str, str]]]:
        """With their stems."""
        for names in self.store.names(folder):
            if (alone := lone_objects(names, self._lone, self.modality)) is None:
                raise Mixed
            yield zip(*alone, strict=True)

    def _plain(self, nodes: list[Node], prefix: str) -> Iterator[Entry] | None:
        """The entries of a folder in which every file stands for itself, as `_walk` would find them.

        None where a file may belong to another, or must be refused: that needs a look at all names together.
        """
        if self.only is not None or self.glob is not None or not self._lone:
            return None
        if any(node.is_folder or node.refusal is not None or node.told for node in nodes):
            return None
        alone = lone_objects([node.name for node in nodes], self._lone, self.modality)
        if alone is None:
            return None
        stems = dict(zip(*alone, strict=True))
        objects = (node for node in nodes if node.name in stems)
        return (Entry(prefix + n.name, part_of(n), group=prefix + stems[n.name]) for n in objects)

    def _objects(
        self, files: dict[str, Node], folders: dict[str, Node], prefix: str, claims: "_Claims"
    ) -> Iterator[Entry]:
        """`claims` gets what belongs to objects here."""
        wanted = [name for name in files if self._is_wanted(prefix + name)]
        objects = claim(files, [n for n in wanted if files[n].refusal is None], self.modality)
        taken = set[str]().union(*objects.values())
        patterns = {name: find_pattern(name, self.modality) for name in wanted}
        stems = {name: stem_of(name, patterns[name]) for name in objects}
        for name in folders:
            if find_pattern(name + "/", self.modality) and self._is_wanted(f"{prefix}{name}/"):
                stems[name + "/"] = stem_of(name, find_pattern(name + "/", self.modality))
        sidecars = find_sidecars([name for name in files if name not in taken], stems)
        riders = {file for beside in sidecars.values() for file in beside.values()}
        for name, stem in stems.items():
            if name in riders:
                continue
            beside = {e: part_of(files[f]) for e, f in sidecars.get(name, {}).items()}
            if name.endswith("/"):
                yield self._whole_folder(folders[name[:-1]], prefix + name, stem, beside)
                continue
            companions = {other: part_of(files[other]) for other in sorted(objects[name])}
            companions |= self._companions_below(name, patterns[name], folders, claims)
            near = [files[other] for other in (*sorted(objects[name]), *sidecars.get(name, {}).values())]
            yield Entry(
                name=prefix + name,
                content=part_of(files[name]),
                companions=companions,
                sidecars=beside,
                group=_group(prefix, stem, patterns[name]),
                refusal=next((_of(node) for node in near if node.refusal), None),
            )
        for name in wanted:
            node = files[name]
            if name in stems or name in taken or name in riders:
                continue
            entry = Entry(name=prefix + name, content=part_of(node), group=prefix + stem_of(name, None))
            if node.refusal is not None:
                yield refused(prefix + name, *node.refusal, uri=node.uri)
            elif name.lower().endswith(COMPRESSED):
                yield refused(entry.name, "unsupported", COMPRESSED_HELP, uri=node.uri, size=node.size)
            else:
                yield entry

    def _is_wanted(self, name: str) -> bool:
        if self.only is not None:
            return name == self.only
        if self.glob is None:
            return not is_ignored(name.rpartition("/")[2])
        return compile_glob(self.glob).fullmatch(name.rstrip("/")) is not None

    def _is_tar(self, entry: Entry) -> bool:
        return entry.name.lower().endswith(".tar") and find_pattern(entry.name, self.modality) is None

    def _whole_folder(self, node: Node, name: str, stem: str, sidecars: dict[str, Part]) -> Entry:
        companions, refusal = {}, None
        for inner, file in self._files_below(node.uri, ""):
            refusal = refusal or _of(file._replace(name=inner))
            companions[inner] = part_of(file)
        return Entry(
            name=name,
            content=Part(uri=node.uri, size=0),
            companions=companions,
            sidecars=sidecars,
            group=name.rpartition("/")[0].rpartition("/")[0] + "/" * ("/" in name[:-1]) + stem,
            refusal=refusal,
        )

    def _files_below(self, folder: str, prefix: str, depth: int = 0) -> Iterator[tuple[str, Node]]:
        for node in make_unique(list(self.store.scan(folder))):
            if not node.is_folder:
                yield prefix + node.name, node
            elif depth < MAX_DEPTH:
                yield from self._files_below(node.uri, f"{prefix}{node.name}/", depth + 1)

    def _companions_below(
        self, name: str, pattern: str | None, folders: dict[str, Node], claims: "_Claims"
    ) -> dict[str, Part]:
        """Companions in folders beside the object: globs with a "/", and "*", which is everything."""
        globs = companion_globs(pattern, stem_of(name, pattern), self.modality) if pattern else []
        found: dict[str, Part] = {}
        for folder, node in sorted(folders.items()):
            heads = [glob for glob in globs if fits(folder.lower(), glob.partition("/")[0])]
            if not any(glob == "*" or "/" in glob for glob in heads):
                continue
            for inner, file in self._files_below(node.uri, folder + "/"):
                if file.refusal is None and any(fits(inner.lower(), glob) for glob in heads):
                    found[inner] = part_of(file)
                    claims[folder].add(inner.removeprefix(folder + "/"))
        return found


class _Below(NamedTuple):
    """A folder, and the names in it, and below, that belong to objects above."""

    uri: str
    claimed: frozenset[str] = frozenset()


_Claims = defaultdict[str, set[str]]  # the same names, by folders


def called(entry: Entry, name: str) -> Entry:
    """By another name; and companions that go by its stem, as readers look for them, with it."""
    if entry.name == name:
        return entry
    old, new = (one.rpartition("/")[2].partition(".")[0] for one in (entry.name, name))
    if old == new or not entry.companions:
        return entry._replace(name=name)
    companions = {
        new + inner.removeprefix(old) if inner.partition(".")[0] == old else inner: part
        for inner, part in entry.companions.items()
    }
    return entry._replace(name=name, companions=companions)


COMPRESSED_HELP = "a compressed archive has no random access; decompress it to .tar, or unpack it"


def _order(name: str) -> str:
    """A tar is sorted as a folder is, for its samples are named below it."""
    return name + "/" if name.lower().endswith(".tar") else name


def _packed(found: tuple[str, Entry | _Below]) -> tuple[str, str, str, tuple[str, ...]]:
    order, one = found
    return (
        (order, one.to_json(), "", ()) if isinstance(one, Entry) else (order, "", one.uri, tuple(one.claimed))
    )


def _unpacked(packed: tuple[str, str, str, tuple[str, ...]]) -> tuple[str, Entry | _Below]:
    order, text, uri, claimed = packed
    return order, Entry.from_json(text) if text else _Below(uri, frozenset(claimed))


def _node_of(entry: Entry) -> Node:
    uri, size = entry.content.uri, entry.content.size
    return Node(entry.name.rpartition("/")[2], uri, size=size, version=entry.content.version)


def _group(prefix: str, stem: str, pattern: str | None) -> str:
    """The folder for an object that is its folder ("lights.npy"), else the path without suffix."""
    whole = pattern is not None and "*" not in pattern
    return prefix.rstrip("/") if whole and prefix else prefix + stem


def _of(node: Node) -> tuple[str, str] | None:
    return node.refusal and (node.refusal[0], f"{node.name}: {node.refusal[1]}")


def place_of(entry: Entry) -> str:
    """Where an object lies, for labels: its name, or its folder's where the folder is the object."""
    folder = entry.name.rstrip("/").rpartition("/")[0]
    return folder if folder and entry.group == folder else entry.name
