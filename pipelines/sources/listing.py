"""From what a job calls its source to the entries in it."""

import os
from collections.abc import Callable, Iterator
from typing import Protocol

from modalities.base import Modality
from pipelines.sources.beside import Beside
from pipelines.sources.entry import Entry, Part
from pipelines.sources.folder import COMPRESSED, COMPRESSED_HELP, Folder, place_of
from pipelines.sources.matching import find_pattern
from pipelines.sources.names import Listing, Names, looked_at
from pipelines.sources.places import open_store, resolve, split_glob
from pipelines.sources.stores import Node, Store
from pipelines.sources.table import is_table, list_table
from pipelines.sources.tar import list_tar

LABELS = ("auto", "folder", "sidecar", "column", "none")


class Source(Protocol):
    """What a job says about its source.

    Read too where they are there: seed, group_column, by_folder (whether folders decide of splits),
    anonymous, allow_empty, and name, which goes before the name of every entry.
    """

    @property
    def uri(self) -> str | None: ...
    @property
    def synth(self) -> int | None: ...
    @property
    def labels(self) -> str: ...
    @property
    def glob(self) -> str | None: ...
    @property
    def uri_column(self) -> str: ...
    @property
    def label_column(self) -> str: ...
    @property
    def caption_column(self) -> str: ...


def list_source(source: Source, modality: Modality) -> Iterator[Entry]:
    """`find_objects`, each looked at."""
    return looked_at(find_objects(source, modality))


def find_objects(source: Source, modality: Modality) -> Iterator[Listing]:
    """Every object of a source, each exactly once, in an order that depends on the source alone.

    Nothing is skipped in silence: what cannot be an object comes as an entry that `open_entry` refuses.

    Raises:
        ValueError: the source cannot be listed at all (scheme, options); the message says what to write.
        FileNotFoundError: nothing is there, or nothing in it, which `allow_empty` takes.
    """
    if source.labels not in LABELS:
        raise ValueError(f"labels must be one of {', '.join(LABELS)}, got {source.labels!r}")
    if source.uri is None:
        found: Iterator[Listing] = _list_synth(source.synth or 0, getattr(source, "seed", 0), modality)
    else:
        found = _some(_list_place(source, source.uri, modality), source)
    name = getattr(source, "name", None)
    return (_called(one, name) for one in found) if name else found


def _some(entries: Iterator[Listing], source: Source) -> Iterator[Listing]:
    """The same, at least one: a typing error in a path must not become a dataset of nothing."""
    first = next(entries, None)
    if first is not None:
        yield first
        yield from entries
    elif not getattr(source, "allow_empty", False):
        what = f"nothing matches {source.glob}" if source.glob else "there is nothing to ingest"
        raise FileNotFoundError(
            f"{source.uri}: {what} (dot files and readmes are passed over); "
            "source.allow_empty: true takes that for a source that fills later"
        )


def _called(entry: Listing, source: str) -> Listing:
    if isinstance(entry, Names):
        return entry._replace(prefix=f"{source}/{entry.prefix}")
    return entry._replace(name=f"{source}/{entry.name}", group=f"{source}/{entry.group}")


def _list_synth(count: int, seed: int, modality: Modality) -> Iterator[Entry]:
    for i in range(count):
        name = f"synth/{i:06d}"
        yield Entry(name=name, content=Part(uri=f"synth:{modality.name}:{seed + i}", size=0), group=name)


def _list_place(source: Source, uri: str, modality: Modality) -> Iterator[Listing]:
    uri = resolve(uri)
    root, glob = split_glob(uri)
    if glob is not None and source.glob is not None:
        raise ValueError(f"either a glob in uri ({uri}) or the option glob ({source.glob}), not both")
    store = open_store(root, anonymous=getattr(source, "anonymous", False))
    node = store.stat(root)
    if node is None:
        raise FileNotFoundError(f"nothing at {root}; a relative path starts at {os.getcwd()}")
    if glob is None and (not node.is_folder or find_pattern(node.name + "/", modality)):
        yield from _list_file(source, store, node, modality)
        return

    def walk() -> Folder:
        return Folder(
            store=store,
            root=node.uri,
            modality=modality,
            glob=glob if glob is not None else source.glob,
            expand=lambda tar, name: list_tar(store, tar, modality, name=name),
        )

    from_folder = source.labels == "folder" or (source.labels == "auto" and _folders_are_classes(walk))
    for found in walk().walk():
        if not isinstance(found, Names):
            yield _label(found, source.labels, from_folder=from_folder)
        else:
            yield found._replace(label=_last(found.prefix) or None) if from_folder else found


def _list_file(source: Source, store: Store, node: Node, modality: Modality) -> Iterator[Entry]:
    lower = node.name.lower()
    if lower.endswith(COMPRESSED):
        raise ValueError(f"{node.uri} is {COMPRESSED_HELP}")
    if is_table(store, node, modality, source.uri_column):
        yield from list_table(source, store, node, modality)
    elif lower.endswith(".tar") and find_pattern(lower, modality) is None:
        for entry in list_tar(store, node, modality, name=node.name):
            yield _label(entry, source.labels, from_folder=source.labels == "folder")
    else:
        yield _label(Beside(modality).entry(store, node), source.labels, from_folder=False)


def _folders_are_classes(walk: Callable[[], Folder]) -> bool:
    """No object in the root, and at least two folders that hold some: then folders are taken for classes."""
    if walk().root_has_objects():
        return False
    seen: set[str] = set()
    for found in walk().walk():
        if isinstance(found, Names):
            seen.add(_last(found.prefix))
        elif not (found.content.ranged or found.refusal is not None):
            seen.add(_folder_of(found))
        if len(seen) > 1:
            return "" not in seen
    return False


def _folder_of(entry: Entry) -> str:
    return _last(place_of(entry).rstrip("/").rpartition("/")[0])


def _last(folder: str) -> str:
    return folder.rstrip("/").rpartition("/")[2]


def _label(entry: Entry, labels: str, *, from_folder: bool) -> Entry:
    """Settle where the label comes from; whoever opens it has one rule: cls sidecar, else label."""
    has_cls = "cls" in entry.sidecars
    if has_cls and labels not in ("auto", "sidecar"):
        entry = entry._replace(sidecars={e: part for e, part in entry.sidecars.items() if e != "cls"})
    if from_folder and not (has_cls and labels == "auto") and not (entry.content.ranged and labels == "auto"):
        return entry._replace(label=_folder_of(entry) or None)
    return entry
