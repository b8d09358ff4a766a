"""A table of URIs, Parquet, CSV or TSV: a row an object, with columns for its label, caption and group."""

import csv
import io
import math
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from itertools import chain
from typing import Any, Protocol

import blake3

from modalities.base import BadSample, Modality
from pipelines.answers import STORE_FAILED
from pipelines.disk import FULL
from pipelines.sources.beside import Beside
from pipelines.sources.entry import UNKNOWN_SIZE, Entry, Part, refused
from pipelines.sources.folder import called
from pipelines.sources.matching import find_pattern
from pipelines.sources.places import open_store, resolve, scheme_of
from pipelines.sources.rows import Named, by_row, come_again, numbered, numbers
from pipelines.sources.stores import Node, Store, clean_name, is_local, local_path

SUFFIXES = (".parquet", ".csv", ".tsv")
MAX_REMOTE_BYTES = 2**30  # a remote table is read at once
_SNIFF = 2**16  # of a CSV, to see its header
_BATCH = 4096  # rows


class Columns(Protocol):
    """What the source says about its columns."""

    @property
    def labels(self) -> str: ...
    @property
    def uri_column(self) -> str: ...
    @property
    def label_column(self) -> str: ...
    @property
    def caption_column(self) -> str: ...


def is_table(store: Store, node: Node, modality: Modality, uri_column: str) -> bool:
    """By suffix; where the modality reads that suffix itself (clouds as CSV), by the URI column in it."""
    lower = node.name.lower()
    if not lower.endswith(SUFFIXES):
        return False
    if find_pattern(lower, modality) is None:
        return True
    if lower.endswith(".parquet"):
        return uri_column in _parquet(store, node).schema_arrow.names
    head = store.read(node.uri, 0, _SNIFF).decode("utf-8-sig", "replace").splitlines()
    return bool(head) and uri_column in next(csv.reader(head[:1], delimiter=_delimiter(node)), [])


def list_table(columns: Columns, store: Store, node: Node, modality: Modality) -> Iterator[Entry]:
    """Entries in the order of the rows. A name that comes again is a sample of its own, called `name~2`.

    Of a name that is a pattern by itself ("lights.npy") the folder is: `folder~2/lights.npy`.

    Relative URIs start at the table's folder. Only a local table may name local files; those outside of its
    folder go by their last name alone, so that no name says where this machine keeps them. Rows that name
    nothing readable become refused entries. Where `columns` has by_folder, the folders of groups decide of
    splits: those files have one too then, and each group of a column must. OSError: the table was written to.
    """
    folder = node.uri.rpartition("/")[0]
    group_column = getattr(columns, "group_column", None)
    by_folder = bool(getattr(columns, "by_folder", False))
    wanted = [columns.label_column, columns.caption_column, *([group_column] if group_column else [])]
    rows = _read_rows(store, node, columns.uri_column, wanted)
    numbers_of = _numbers(store, node, modality, columns.uri_column, by_folder=by_folder)
    anonymous = bool(getattr(columns, "anonymous", False))
    stores: dict[str, Store] = {}
    beside = Beside(modality)
    first = True
    for number, (row, (count, rank)) in enumerate(zip(rows, numbers_of, strict=False), start=1):
        if first and columns.labels == "column" and columns.label_column not in row:
            raise ValueError(
                f"{node.uri} has no column {columns.label_column!r} for labels; set label_column"
            )
        first = False
        uri = _given(row[columns.uri_column])
        if not uri:
            name = numbered(_unnamed(number), count, modality) if count > 1 else _unnamed(number)
            yield refused(name, "unreadable", f"row {number} of {node.uri} has no {columns.uri_column}")
            continue
        entry = _entry(uri, folder, modality, stores, beside, anonymous=anonymous)
        name = numbered(entry.name, count, modality) if count > 1 else entry.name
        if entry.refusal is None and "/" not in entry.name:
            away = _away(uri, entry.content.uri, folder) if by_folder else ""
            own = f"{entry.group}~{rank}" if rank > 1 else entry.group
            entry = entry._replace(group=f"{away}/{entry.group}" if away else own)
        label = _text(row.get(columns.label_column)) if columns.labels in ("auto", "column") else None
        group = _text(row.get(group_column)) if group_column else None
        if by_folder and group and "/" not in group:
            raise ValueError(
                f"row {number} of {node.uri}: {group_column} {group!r} has no folder, which split.by: folder "
                "wants; write folder/scene, or say split.by: scene, by which each group goes one way"
            )
        caption = _text(row.get(columns.caption_column))
        yield called(entry, name)._replace(label=label, caption=caption, group=group or entry.group)
    try:
        store.read(node.uri, 0, 1, node.version)
    except BadSample as error:  # rows of before and after would be told as one table's
        raise OSError(f"{node.uri} was written to while it was listed; run the same command again") from error


def _entry(
    uri: str, folder: str, modality: Modality, stores: dict[str, Store], beside: Beside, *, anonymous: bool
) -> Entry:
    given, name = uri, ""
    try:
        uri = _absolute(given, folder)
        name = _name_of(given, uri, folder)
        place = uri.partition("://")[0] if "://" in uri else ""
        if place not in stores:
            stores[place] = open_store(uri, anonymous=anonymous)
    except ValueError as error:
        return refused(name or _name(given), "unsafe", str(error))
    store = stores[place]
    last = name.rpartition("/")[2]
    needs_folder = find_pattern(last, modality) in modality.companions or find_pattern(last + "/", modality)
    if place and not needs_folder:
        return Entry(name=name, content=Part(uri=uri, size=UNKNOWN_SIZE), group=_stem(name))
    try:
        node = store.stat(uri)
        if node is None:
            return refused(name, "unreadable", f"{uri}: nothing is there", uri=uri)
        if node.refusal is not None:
            return refused(name, *node.refusal, uri=uri)
        if needs_folder and store.has_folders:
            found = beside.entry(store, node)
            return found._replace(name=name + "/" * node.is_folder, group=_stem(name))
    except STORE_FAILED:
        raise
    except OSError as error:
        if error.errno in FULL:  # of the disk that sorts
            raise
        return refused(name, "unreadable", f"{uri}: {error}", uri=uri)
    if node.is_folder:
        return refused(name, "unreadable", f"{uri} is a folder; a row names one object", uri=uri)
    return Entry(
        name=name, content=Part(uri=node.uri, size=node.size, version=node.version), group=_stem(name)
    )


def _absolute(uri: str, folder: str) -> str:
    scheme = scheme_of(uri)
    remote = _is_remote(folder)
    if remote and (
        scheme == "file" or (not scheme and (uri.startswith(("/", "~")) or ".." in uri.split("/")))
    ):
        raise ValueError(f"{uri!r} leads out of the folder of a table that is not local; only URLs may")
    if scheme or uri.startswith(("/", "~")):
        return resolve(uri)
    return f"{folder}/{uri}" if remote else resolve(f"{folder}/{uri}")


@lru_cache(maxsize=8)
def _is_remote(folder: str) -> bool:
    return scheme_of(folder) not in ("", "file")


def _name(uri: str) -> str:
    """The URI as a relative name: without scheme, query, and steps up."""
    path = uri.partition("://")[2].partition("?")[0].partition("#")[0] if "://" in uri else uri
    parts = [part for part in clean_name(path).split("/") if part not in ("", ".", "..", "~")]
    return "/".join(parts) or "(no name)"


def _name_of(given: str, uri: str, folder: str) -> str:
    """The name of what lies at `uri`: from the table's folder on; a local file elsewhere by its last name."""
    if not scheme_of(given) and not given.startswith(("/", "~")):
        return _name(given)
    if uri.startswith(root := _root(folder)):
        return _name(uri[len(root) :])
    return _name(uri.rstrip("/").rpartition("/")[2] if is_local(uri) else uri)


@lru_cache(maxsize=8)
def _root(folder: str) -> str:
    return (str(local_path(folder)) if is_local(folder) else folder).rstrip("/") + "/"


def _away(given: str, uri: str, folder: str) -> str:
    """What tells the folder of a local file that lies elsewhere than the table from others, or nothing.

    A hash: neither a sample's group says where this machine keeps it.
    """
    if not is_local(uri) or not (scheme_of(given) or given.startswith(("/", "~"))):
        return ""
    parent = local_path(uri).parent
    if is_local(folder) and parent == local_path(folder):
        return ""
    digest: str = blake3.blake3(os.fsencode(parent)).hexdigest()[:10]
    return digest


def _stem(name: str) -> str:
    folder, slash, base = name.rpartition("/")
    return folder + slash + (base.rpartition(".")[0] or base)


def _numbers(
    store: Store, node: Node, modality: Modality, uri_column: str, *, by_folder: bool
) -> Iterator[tuple[int, int]]:
    """Of each row the number of its name, and of its object among those of the name; 1 or less: as it is."""
    folder = node.uri.rpartition("/")[0]
    real = lru_cache(maxsize=1024)(os.path.realpath)
    rows = come_again(name for name, *_ in _named(store, node, uri_column))

    def named(first: int) -> Iterator[Named]:
        again = by_row(((row, True) for row in chain([first], rows)), False)
        found = zip(_named(store, node, uri_column), again, strict=False)
        for number, ((name, given, uri), comes_again) in enumerate(found, start=1):
            place = _place(uri, real) if uri and comes_again and "/" not in name else ""
            away = by_folder and place and _away(given, place, folder)
            yield Named(number, name, "" if away else place, comes_again)

    first = next(rows, None)
    return by_row(numbers(named(first), modality) if first else (), (1, 1))


def _named(store: Store, node: Node, uri_column: str) -> Iterator[tuple[str, str, str]]:
    """What `_entry` calls each row, but for the slash of a folder, and its URI, as given and absolute."""
    folder = node.uri.rpartition("/")[0]
    for number, row in enumerate(_read_rows(store, node, uri_column, []), start=1):
        given = _given(row[uri_column])
        try:
            uri = given and _absolute(given, folder)
            yield _name_of(given, uri, folder) if given else _unnamed(number), given, uri
        except ValueError:
            yield _name(given), given, ""


def _given(uri: Any) -> str:
    return uri.strip() if isinstance(uri, str) else ""


def _unnamed(number: int) -> str:
    return f"row-{number:09d}"


def _place(uri: str, real: Callable[[str], str]) -> str:
    """What tells an object from others: of a local file the real path, nothing where there is no file."""
    if not is_local(uri):
        return uri
    folder, _, name = uri.rpartition("/")
    above, _, last = folder.rpartition("/")
    path = os.path.join(real(above or "/"), last)  # which remembers some: a row takes two looks at the disk
    path = os.path.join(os.path.realpath(path) if os.path.islink(path) else path, name)
    try:
        if stat.S_ISLNK((status := os.lstat(path)).st_mode):
            status = os.lstat(path := os.path.realpath(path))
    except OSError:
        return ""
    return path if stat.S_ISREG(status.st_mode) else ""


def _text(value: Any) -> str | None:
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return str(value)


def _read_rows(store: Store, node: Node, uri_column: str, others: list[str]) -> Iterator[Mapping[str, Any]]:
    if node.name.lower().endswith(".parquet"):
        return _parquet_rows(store, node, uri_column, others)
    return _csv_rows(store, node, uri_column)


def _parquet_rows(
    store: Store, node: Node, uri_column: str, others: list[str]
) -> Iterator[Mapping[str, Any]]:
    file = _parquet(store, node)
    names = file.schema_arrow.names
    _check_column(node, uri_column, names)
    for batch in file.iter_batches(_BATCH, columns=[uri_column, *(name for name in others if name in names)]):
        yield from batch.to_pylist()


def _parquet(store: Store, node: Node) -> Any:
    from pyarrow import ArrowInvalid, parquet

    try:
        return parquet.ParquetFile(
            local_path(node.uri) if is_local(node.uri) else io.BytesIO(_whole(store, node))
        )
    except ArrowInvalid as error:
        raise ValueError(f"{node.uri} is no Parquet file: {error}") from error


def _csv_rows(store: Store, node: Node, uri_column: str) -> Iterator[Mapping[str, Any]]:
    binary = local_path(node.uri).open("rb") if is_local(node.uri) else io.BytesIO(_whole(store, node))
    with io.TextIOWrapper(binary, "utf-8-sig", newline="") as text:
        reader = csv.DictReader(text, delimiter=_delimiter(node), restkey="(more)", strict=True)
        try:
            _check_column(node, uri_column, reader.fieldnames or ())
            for row in reader:
                if "(more)" in row:
                    raise ValueError(f"{node.uri} line {reader.line_num}: more fields than the header names")
                yield row
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(f"{node.uri} near line {reader.line_num}: {error}") from error


def _whole(store: Store, node: Node) -> bytes:
    if node.size > MAX_REMOTE_BYTES:
        raise ValueError(
            f"{node.uri} is {node.size:,} bytes, a remote table has at most {MAX_REMOTE_BYTES:,}"
        )
    return store.read(node.uri, 0, node.size if node.size >= 0 else MAX_REMOTE_BYTES)


def _check_column(node: Node, column: str, names: Any) -> None:
    if column not in names:
        raise ValueError(
            f"{node.uri} has no column {column!r} with URIs; set uri_column to one of {list(names)}"
        )


def _delimiter(node: Node) -> str:
    return "\t" if node.name.lower().endswith(".tsv") else ","
