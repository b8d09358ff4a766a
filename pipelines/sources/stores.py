"""Where raw objects lie: local disks and fsspec file systems behind one small interface."""

import os
import re
import stat
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Set
from contextlib import contextmanager
from itertools import chain, count, islice
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote, unquote_to_bytes

import blake3

from modalities.base import BadSample

_NAMED = 2**12  # names at a time
Read = Any  # (offset, size | None) -> bytes


class Node(NamedTuple):  # millions are made, and a tuple is made in half the time of a dataclass
    """One name in a folder. `name` is NFC and unique there; `uri` is what opens it.

    `told`: what a dataset calls a file whose name as it was listed is not NFC, or has digits like that; see
    `told_name`.
    """

    name: str
    uri: str
    is_folder: bool = False
    size: int = 0
    version: str = ""
    refusal: tuple[str, str] | None = None
    told: str = ""


class Mixed(Exception):
    """A folder of which the names alone do not say what is in it."""


class Store(Protocol):
    """One kind of storage. Folders and objects are named by the URIs that its nodes carry."""

    has_folders: bool

    def stat(self, uri: str) -> Node | None:
        """What is there, None if nothing. A trailing symlink of a path the user named is followed."""

    def scan(self, folder: str) -> Iterator[Node]:
        """What is in a folder, in no order. OSError if it cannot be read; STORE_FAILED ends the listing."""

    def names(self, folder: str) -> Iterator[list[str]]:
        """Names in a folder of nothing but plain files, dot files left out; OSError as `scan` has it.

        Mixed where only `scan` can tell, or tells as cheaply.
        """

    def read(self, uri: str, offset: int, size: int, version: str = "") -> bytes:
        """`size` bytes from `offset`, fewer at the end of the object. OSError, BadSample.

        `version`: what a listing saw; an object that was written to since is BadSample "changed".
        """


def local_path(uri: str) -> Path:
    """Of a path, or of a `file:` URL, which is percent-decoded: it can carry a name that is not UTF-8."""
    return Path(_path_of(uri))


def _path_of(uri: str) -> str:
    return os.fsdecode(unquote_to_bytes(uri.removeprefix("file://"))) if uri.startswith("file:") else uri


def is_local(uri: str) -> bool:
    return uri.startswith(("/", "file:"))


def local_uri(path: str) -> str:
    """The path itself; a `file:` URL if its name is not UTF-8 and so cannot travel as text."""
    return path if _is_text(path) else "file://" + quote(os.fsencode(path))


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def clean_name(name: str) -> str:
    """NFC; bytes that are not UTF-8 become `\\xNN`."""
    if name.isascii():
        return name
    if not _is_text(name):
        name = os.fsencode(name).decode("utf-8", "backslashreplace")
    return unicodedata.normalize("NFC", name)


def told_name(name: str) -> str:
    """A name that is not NFC in NFC, with ten hex digits of what it was, whatever lies beside it; else "".

    A twin in another form that comes later, or goes, so takes nobody's name; nor does a name that has such
    digits of its own, for it gets ten more. Of names that differ in their extensions alone the digits are
    the same.
    """
    if name.isascii() or not _is_text(name) or ((plain := clean_name(name)) == name and not _TOLD(name)):
        return ""
    stem, _, extension = name.partition(".")
    own = stem if extension == clean_name(extension) else name
    return _marked(plain, blake3.blake3(own.encode()).hexdigest()[:10])


_TOLD = re.compile(r"[^.]*~[0-9a-f]{10}(\..*)?", re.DOTALL).fullmatch


def _marked(name: str, mark: str) -> str:
    stem, dot, extension = name.partition(".")
    return f"{stem}~{mark}{dot}{extension}"


def make_unique(nodes: list[Node], twins: Set[str] = frozenset()) -> list[Node]:
    """Sorted by name as the full paths sort; of files of one name those that are not NFC go by `told`.

    With these goes what has their stem, byte for byte. Any other second file of one name is `name~2`:
    `\\xNN` may be a byte, or be written so. Folders of one name carry a refusal, for it starts the names of
    all that lies in them: one that came later would take those of the other. `twins`: of what else is
    there, see `twins_among`.
    """
    if len({node.name for node in nodes}) == len(nodes) and not any(node.told for node in nodes):
        return sorted(nodes, key=attrgetter("name"))
    nodes = list(dict.fromkeys(nodes))
    alike = _alike(nodes)
    twins = {
        *twins,
        *twins_among(nodes),
        *(_first(node.told) for node in nodes if node.told and _TOLD(node.name)),
    }
    taken: dict[bool, set[str]] = {False: set(), True: set()}  # a file takes no name from a folder
    out = []
    for node in sorted(nodes, key=lambda n: (n.told != "", n.name, n.uri)):
        mine = taken[node.is_folder]
        told = node.told and _free(node.told, mine)
        name = told if told and _first(node.told) in twins else _free(node.name, mine)
        mine |= {name, told or name}
        uris = alike[node.name, node.is_folder]
        refusal = _two_folders(uris) if node.is_folder and len(uris) > 1 else node.refusal
        out.append(node._replace(name=name, told=told, refusal=refusal))
    return sorted(out, key=attrgetter("name"))


def twins_among(nodes: list[Node]) -> set[str]:
    """What files that have another's name go by up to the first dot; and so does all that begins so."""
    alike = _alike(nodes)
    return {_first(n.told) for n in nodes if n.told and len(alike[n.name, n.is_folder]) > 1}


def _alike(nodes: list[Node]) -> dict[tuple[str, bool], list[str]]:
    alike: dict[tuple[str, bool], list[str]] = defaultdict(list)
    for node in dict.fromkeys(nodes):  # Azure lists a folder again where an empty object stands for it
        alike[node.name, node.is_folder].append(node.uri)
    return alike


def _first(name: str) -> str:
    return name.partition(".")[0]


def _two_folders(uris: list[str]) -> tuple[str, str]:
    told = " and ".join(map(ascii, sorted(uris)))  # where the forms can be told apart
    return "bad-name", f"the names of {told} are one in NFC; rename one, or name the files of both in a table"


def _free(name: str, taken: set[str]) -> str:
    """The name, or with the first number from 2 that nobody has taken."""
    numbered = (_marked(name, f"{i}") for i in count(2))
    return next(one for one in chain([name], numbered) if one not in taken)


class LocalStore:
    """A local disk. Reads regular files only, and follows no link that leaves `root`."""

    has_folders = True

    def __init__(self, root: str = "") -> None:
        self.root = root

    def stat(self, uri: str) -> Node | None:
        path = os.path.realpath(local_path(uri))
        try:
            return self._node(os.path.basename(path), path, os.lstat(path))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def scan(self, folder: str) -> Iterator[Node]:
        with os.scandir(path := _path_of(folder)) as found:
            clean = _is_text(path)
            for item in found:
                yield self._listed(item, clean)

    def names(self, folder: str) -> Iterator[list[str]]:
        if not _is_text(folder) or folder.startswith("file:"):
            raise Mixed
        with os.scandir(folder) as items:
            while some := list(islice(items, _NAMED)):
                names = [item.name for item in some if item.name[0] != "."]
                for item in some:
                    if item.name[0] != "." and not (
                        item.is_file(follow_symlinks=False) and item.name.isascii()
                    ):
                        raise Mixed  # names of other letters come in more than one form
                yield names

    def read(self, uri: str, offset: int, size: int, version: str = "") -> bytes:
        return read_regular(uri, offset, size, version)

    def _listed(self, item: os.DirEntry[str], clean: bool) -> Node:
        status = item.stat(follow_symlinks=False)
        if clean and stat.S_ISREG(status.st_mode) and item.name.isascii():  # nearly every one is
            return Node(item.name, item.path, False, status.st_size, version_of(status))
        return self._node(item.name, item.path, status)

    def _node(self, name: str, path: str, status: os.stat_result) -> Node:
        refusal = None
        if stat.S_ISLNK(status.st_mode):
            target = os.path.realpath(path)
            inside = self.root and (target + os.sep).startswith(self.root.rstrip(os.sep) + os.sep)
            if not inside:
                refusal = (
                    "unsafe",
                    f"a symbolic link that leads out of {self.root}; copy the file into the source",
                )
            elif os.path.isdir(target):
                refusal = ("unsafe", "a symbolic link to a folder; its files are listed where they are")
            elif os.path.exists(target):
                path, status = target, os.lstat(target)
            else:
                refusal = ("unreadable", "a symbolic link to nothing")
        is_folder = stat.S_ISDIR(status.st_mode)
        if refusal is None and not is_folder and not stat.S_ISREG(status.st_mode):
            refusal = ("unsafe", "not a regular file (a pipe, a socket or a device)")
        return Node(
            name=clean_name(name),
            uri=local_uri(path),
            is_folder=is_folder,
            size=0 if is_folder or refusal else status.st_size,
            version="" if is_folder or refusal else version_of(status),
            refusal=refusal,
            told=told_name(name),
        )


@contextmanager
def open_regular(uri: str, version: str = "") -> Iterator[int]:
    """A descriptor of a regular local file, opened so that neither a link nor a pipe can be slipped in.

    `version`: what a listing saw; a file that was written to since is BadSample "changed".
    """
    descriptor, _ = _opened(uri, version)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def read_regular(uri: str, offset: int, size: int, version: str = "") -> bytes:
    """`size` bytes of a regular local file from `offset`, fewer at its end; opened as `open_regular` does."""
    descriptor, end = _opened(uri, version)
    try:
        return _pread(descriptor, offset, size, end)
    finally:
        os.close(descriptor)


def version_of(status: os.stat_result) -> str:
    """Of a local file: when it was written to, in ns, and when it was changed at all, where that is another.

    Whoever writes to a file can set the first time back, as tools that copy and edit do, but not the second.
    """
    written, changed = status.st_mtime_ns, status.st_ctime_ns
    return str(written) if written == changed else f"{written}-{changed}"


_SAFE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def _opened(uri: str, version: str = "") -> tuple[int, int]:
    """A descriptor, and the file's size."""
    try:
        descriptor = os.open(_path_of(uri), _SAFE)
    except OSError as error:
        raise BadSample("unreadable", f"{uri}: {error.strerror}") from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise BadSample("unsafe", f"{uri} is not a regular file")
    if version and not f"{version}-".startswith(f"{status.st_mtime_ns}-"):  # a chmod sets the other
        os.close(descriptor)
        raise BadSample("changed", f"{uri} was written to after it was listed; ingest it again")
    return descriptor, status.st_size


def _pread(descriptor: int, offset: int, size: int, end: int) -> bytes:
    """Until `size` bytes are there, or the file ends; `end` is where it did when it was opened."""
    data = os.pread(descriptor, min(size, 2**30), offset)
    if len(data) == size or offset + len(data) == end:
        return data
    chunks = [data]
    while (size := size - len(data)) > 0 and data:
        offset += len(data)
        data = os.pread(descriptor, min(size, 2**30), offset)
        chunks.append(data)
    return b"".join(chunks)
