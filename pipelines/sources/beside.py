"""Single objects, and what lies beside them."""

import errno
import marshal
import os
import sqlite3
import tempfile
from collections.abc import Iterable
from pathlib import Path

from modalities.base import Modality
from pipelines.disk import TEMPORARY, told_when_full
from pipelines.sources.entry import Entry
from pipelines.sources.folder import Folder, called, part_of
from pipelines.sources.groups import TOGETHER, by_stem, reach_of, visible
from pipelines.sources.matching import find_pattern, stem_of
from pipelines.sources.stores import Node, Store


class Beside:
    """What lies beside objects. A folder is listed once, and what was found in it waits on disk.

    A table may name millions in one folder, or in many by turns.
    """

    def __init__(self, modality: Modality) -> None:
        self._modality, self._reach = modality, reach_of(modality)
        self._file = tempfile.NamedTemporaryFile(prefix="rayloom-beside-")  # noqa: SIM115 - as long as this
        self._known = sqlite3.connect(self._file.name, isolation_level=None, check_same_thread=False)
        self._known.execute("PRAGMA journal_mode = OFF")
        self._known.execute("PRAGMA synchronous = OFF")
        self._known.execute(
            "CREATE TABLE beside (folder TEXT, stem TEXT, nodes BLOB, PRIMARY KEY (folder, stem))"
            " WITHOUT ROWID"
        )

    def entry(self, store: Store, node: Node) -> Entry:
        """A file or a folder object, with what lies beside it where the store has folders."""
        stem = stem_of(node.name, find_pattern(node.name, self._modality))
        alone = Entry(name=node.name, content=part_of(node), group=stem)
        if not store.has_folders:
            return alone
        folder = node.uri.rpartition("/")[0] or "/"
        nodes = self._near(store, folder, node.name)
        mine = next((one.name for one in nodes if one.uri == node.uri), node.name)  # it may have a twin
        name = mine + "/" * node.is_folder
        around = Folder(
            store=store, root=folder, modality=self._modality, only=name, expand=lambda tar, name: iter(())
        )
        found = next((entry for entry in around.objects_of(nodes) if entry.name == name), alone)
        if mine == node.name:
            return found
        return called(found, node.name + "/" * node.is_folder)._replace(group=alone.group)

    def _near(self, store: Store, folder: str, name: str) -> list[Node]:
        """Of a folder what may belong together with what has this name."""
        for stem in (self._reach.stem(name), self._reach.plain_stem(name), TOGETHER):
            if (found := self._found(folder, stem)) is not None:
                return found
        groups = by_stem(visible(store.scan(folder)), self._modality)
        with told_when_full(Path(tempfile.gettempdir()), TEMPORARY):
            self._keep(folder, groups)
        return self._near(store, folder, name)

    def _found(self, folder: str, stem: str) -> list[Node] | None:
        row = self._known.execute(
            "SELECT nodes FROM beside WHERE folder = ? AND stem = ?", (folder, stem)
        ).fetchone()
        return None if row is None else [Node._make(one) for one in marshal.loads(row[0])]

    def _keep(self, folder: str, groups: Iterable[tuple[str, list[Node]]]) -> None:
        rows = ((folder, stem, marshal.dumps([tuple(node) for node in nodes])) for stem, nodes in groups)
        last = (folder, TOGETHER, marshal.dumps([]))  # also says that the folder was listed
        self._known.execute("BEGIN")
        try:
            self._known.executemany("INSERT OR REPLACE INTO beside VALUES (?, ?, ?)", rows)
            self._known.execute("INSERT OR IGNORE INTO beside VALUES (?, ?, ?)", last)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_FULL:
                raise
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        finally:
            if self._known.in_transaction:  # SQLite ends it where the disk is full
                self._known.execute("COMMIT")
