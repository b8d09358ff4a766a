"""Files that a listing only names: whoever describes them looks at them, and that may be another process."""

import os
import stat
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from pipelines.sources.entry import Entry, Part, refused
from pipelines.sources.stores import version_of


class Names(NamedTuple):
    """Files of one local folder of which each is an object by itself, in the order of a listing.

    folder: its path, which is text. prefix: what goes before the names in the source; a slash ends it.
    stems: the names without what their patterns end in. label: of all of them.
    """

    folder: str
    prefix: str
    names: list[str]
    stems: list[str]
    label: str | None = None

    def cut(self, size: int) -> "tuple[Names, Names]":
        """The first so many, and the others."""
        first = self._replace(names=self.names[:size], stems=self.stems[:size])
        return first, self._replace(names=self.names[size:], stems=self.stems[size:])

    def entries(self) -> Iterator[Entry]:
        """As a listing that looks at each gives them. What has gone meanwhile is refused, not forgotten."""
        folder, prefix, label = os.path.join(self.folder, ""), self.prefix, self.label
        for name, stem in zip(self.names, self.stems, strict=True):
            uri = folder + name
            try:
                status = os.lstat(uri)
            except OSError as error:
                yield refused(prefix + name, "unreadable", f"{uri}: {error.strerror}", uri=uri)
                continue
            if not stat.S_ISREG(status.st_mode):
                yield refused(prefix + name, "unsafe", f"{uri} is a regular file no more", uri=uri)
                continue
            content = Part(uri, status.st_size, version=version_of(status))
            yield Entry(prefix + name, content, label=label, group=prefix + stem)


Listing = Entry | Names


def looked_at(found: Iterable[Listing]) -> Iterator[Entry]:
    """Every entry, in order."""
    for one in found:
        if isinstance(one, Names):
            yield from one.entries()
        else:
            yield one


def batches(found: Iterable[Listing], size: int) -> Iterator[list[Listing]]:
    """The same in lists of `size` files and entries, the last perhaps of fewer."""
    batch: list[Listing] = []
    count = 0
    for one in found:
        left = one
        while isinstance(left, Names) and len(left.names) > size - count:
            first, left = left.cut(size - count)
            yield [*batch, first]
            batch, count = [], 0
        batch.append(left)
        count += len(left.names) if isinstance(left, Names) else 1
        if count == size:
            yield batch
            batch, count = [], 0
    if batch:
        yield batch
