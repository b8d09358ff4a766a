"""Single objects, and what lies beside them."""

import errno
import marshal
import os
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from modalities.base import Modality
from pipelines.disk import TEMPORARY, told_when_full
from pipelines.sources.entry import Entry
from pipelines.sources.folder import Folder, called, part_of
from pipelines.sources.groups import TOGETHER, by_stem, reach_of, visible
from pipelines.sources.matching import find_pattern, is_hidden, stem_of
from pipelines.sources.stores import Node, Store

# SQLite has one error for a quota and for all that else may be wrong with a disk.
_FULL = {sqlite3.SQLITE_FULL: errno.ENOSPC, sqlite3.SQLITE_IOERR: errno.EDQUOT}


class Beside:
    """What lies beside objects. A folder is listed once, and what was found in it waits in SQLite.

    A table may name millions in one folder, or in many by turns. What comes while it is read makes its folder
    be listed again, if it is an object that the table names.
    """

    def __init__(self, modality: Modality) -> None:
        self._modality, self._reach = modality, reach_of(modality)
        # A database without a name goes to disk where it is large, and with whoever opened it.
        self._known = sqlite3.connect("", check_same_thread=False)
        self._known.execute(
            "CREATE TABLE beside (folder TEXT, stem TEXT, nodes BLOB, PRIMARY KEY (folder, stem))"
            " WITHOUT ROWID"
        )
        self._unlisted: set[str] = set()  # folders that do not list what is there

    def entry(self, store: Store, node: Node) -> Entry:
        """A file or a folder object, with what lies beside it where the store has folders."""
        stem = stem_of(node.name, find_pattern(node.name, self._modality))
        alone = Entry(name=node.name, content=part_of(node), group=stem)
        if not store.has_folders or is_hidden(node.name):
            return alone
        folder = node.uri.rpartition("/")[0] or "/"
        nodes = self._near(store, folder, node)
        mine = next((one.name for one in nodes if one.uri == node.uri), node.name)  # it may have a twin
        name = mine + "/" * node.is_folder
        around = Folder(
            store=store, root=folder, modality=self._modality, only=name, expand=lambda tar, name: iter(())
        )
        found = next((entry for entry in around.objects_of(nodes) if entry.name == name), alone)
        if found.refusal is None:
            found = found._replace(content=alone.content)  # as it is now
        if mine == node.name:
            return found
        return called(found, node.name + "/" * node.is_folder)._replace(group=alone.group)

    def _near(self, store: Store, folder: str, node: Node) -> list[Node]:
        """Of a folder what may belong together with a node."""
        found = self._found(folder, node.name)
        if found is None or (folder not in self._unlisted and not any(one.uri == node.uri for one in found)):
            self._keep(folder, by_stem(visible(store.scan(folder)), self._modality, self._reach))
            found = self._found(folder, node.name) or []
            if not any(one.uri == node.uri for one in found):
                self._unlisted.add(folder)
        return found

    def _found(self, folder: str, name: str) -> list[Node] | None:
        for stem in (self._reach.stem(name), self._reach.plain_stem(name), TOGETHER):
            with _told():
                row = self._known.execute(
                    "SELECT nodes FROM beside WHERE folder = ? AND stem = ?", (folder, stem)
                ).fetchone()
            if row is not None:
                return [Node._make(one) for one in marshal.loads(row[0])]
        return None

    def _keep(self, folder: str, groups: Iterable[tuple[str, list[Node]]]) -> None:
        rows = ((folder, stem, marshal.dumps([tuple(node) for node in nodes])) for stem, nodes in groups)
        last = (folder, TOGETHER, marshal.dumps([]))  # also says that the folder was listed
        with _told(), self._known:
            self._known.execute("DELETE FROM beside WHERE folder = ?", (folder,))
            self._known.executemany("INSERT INTO beside VALUES (?, ?, ?)", rows)
            self._known.execute("INSERT OR IGNORE INTO beside VALUES (?, ?, ?)", last)


@contextmanager
def _told() -> Iterator[None]:
    """A full disk by the name that all else has for it."""
    with told_when_full(Path(tempfile.gettempdir()), TEMPORARY):
        try:
            yield
        except sqlite3.OperationalError as error:
            code = _FULL.get(error.sqlite_errorcode & 0xFF)  # the rest says what failed
            if code is None:
                raise
            raise OSError(code, f"{os.strerror(code)} ({error})") from error
