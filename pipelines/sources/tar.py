"""An existing tar, listed by its headers: members grouped as WebDataset groups them, nothing extracted."""

import re
from collections.abc import Generator, Iterable, Iterator
from itertools import count, groupby
from operator import attrgetter, itemgetter
from typing import NamedTuple

from modalities.base import BadSample, Modality
from pipelines.answers import STORE_FAILED
from pipelines.sources.entry import Entry, Part, refused
from pipelines.sources.folder import part_of
from pipelines.sources.headers import Damage, Member, read_members
from pipelines.sources.matching import is_hidden, is_ignored
from pipelines.sources.samples import arrange
from pipelines.sources.sorting import in_order
from pipelines.sources.stores import Node, Store, clean_name

MAX_NAME = 4096
PICKLED = (
    ".pyd",
    ".pkl",
    ".pickle",
    ".pth",
    ".pt",
    ".ckpt",
    ".joblib",
    ".dill",
)  # run by who decodes by name


class _Found(NamedTuple):
    """A member. number: among those that are not passed over; problem: why it must not be read."""

    key: str
    number: int
    path: str
    problem: str
    offset: int
    size: int


def list_tar(store: Store, node: Node, modality: Modality, *, name: str) -> Iterator[Entry]:
    """Samples of a tar, sorted by key.

    A sample of which a member must not be read is refused as a whole. What lies behind a damaged place is
    one refused entry, with the sample that was being read there, for nobody knows what it lacks; with every
    sample, if members of samples do not lie together.
    """
    damages: list[Damage] = []
    last = ""

    def sound() -> Iterator[_Found]:
        nonlocal last
        for one in _found(store, node):
            if isinstance(one, Damage):
                damages.append(one)
            else:
                last = one.key
                yield one

    found = _by_key(sound())
    damage = next(iter(damages), None)
    damaged, apart = None, False
    if damage and not damage.whole:
        damaged = split_key(_clean_path(damage.member))[0] if damage.member else last

        def watched() -> Iterator[_Found]:
            nonlocal apart
            for _, members in groupby(found, key=attrgetter("key")):
                lie_together = yield from _watched(members)
                apart = apart or not lie_together

        found = _by_key(watched())
    cut: list[str] = []
    lost = 0
    for key, members in groupby(found, key=attrgetter("key")):
        if apart or key == damaged:
            lost, cut = lost + 1, [*cut, key][:3]
            continue
        parts, problem = _sample(members)
        if problem:
            yield refused(f"{name}/{_printable(key)}", "unsafe", problem, uri=node.uri)
        elif not _is_litter(key, parts):
            yield _entry(node, name, key, parts, modality)
    if damage:
        yield _remainder(node, name, damage, lost, cut)


def _by_key(found: Iterable[_Found]) -> Iterator[_Found]:
    """Headers of a tar may be more than memory should hold."""
    return in_order(found, itemgetter(0, 1), tuple, _Found._make)


def _found(store: Store, node: Node) -> Iterator[_Found | Damage]:
    numbers = count()
    for member in _members(store, node):
        if isinstance(member, Damage):
            yield member
            return
        path = _clean_path(member.name)
        parts = path.split("/")
        if member.kind == "file" and ".." not in parts and any(map(is_hidden, parts)):
            continue
        problem = _problem(member, path) or ""
        yield _Found(split_key(path)[0], next(numbers), path, problem, member.offset, member.size)


def _sample(members: Iterable[_Found]) -> tuple[dict[str, _Found], str]:
    """Members of one key by their extensions, and why the sample is refused."""
    parts: dict[str, _Found] = {}
    refusal = ""
    for one in members:
        problem = one.problem
        if not problem and (extension := split_key(one.path)[1]) in parts:
            problem = f"two members are called {one.path!r}; nobody can say which is meant"
        elif not problem:
            parts[extension] = one
        refusal = refusal or problem
    return parts, refusal


def _watched(members: Iterable[_Found]) -> Generator[_Found, None, bool]:
    """The members of one key. Returned: whether what a sample is made of lies together."""
    together, before, parts = True, -1, set[str]()
    for one in members:
        extension = split_key(one.path)[1]
        if not one.problem and extension not in parts:
            together = together and (not parts or one.number == before + 1)
            parts.add(extension)
        before = one.number
        yield one
    return together


def _members(store: Store, node: Node) -> Iterator[Member | Damage]:
    """The members; a read that fails is damage too: one lost tar must not end the listing of a thousand."""
    reached = 0
    try:
        for member in read_members(lambda offset, size: store.read(node.uri, offset, size), node.size):
            reached = member.offset
            yield member
    except STORE_FAILED:
        raise
    except (OSError, BadSample) as error:
        yield Damage("unreadable", str(error), reached)


def split_key(path: str) -> tuple[str, str]:
    """Split "a/b.seg.png" into ("a/b", "seg.png"): the key ends at the first dot of the last part."""
    folder, slash, base = path.rpartition("/")
    stem, _, extension = base.partition(".")
    return folder + slash + stem, extension.lower()


def _entry(node: Node, name: str, key: str, members: dict[str, _Found], modality: Modality) -> Entry:
    def part(extension: str) -> Part:
        member = members[extension]
        return part_of(node)._replace(size=member.size, offset=member.offset, ranged=True)

    sample = arrange(f"{name}/{key}", members, modality)
    return Entry(
        name=sample.name,
        content=part(sample.primary),
        companions={inner: part(extension) for inner, extension in sample.companions.items()},
        sidecars={extension: part(extension) for extension in sample.sidecars},
        group=f"{name}/{key}",
    )


def _remainder(node: Node, name: str, damage: Damage, lost: int, cut: list[str]) -> Entry:
    """`lost` samples go with it; the first of them are in `cut`."""
    with_it = f"; with it {lost} samples that may lack a member ({', '.join(cut)})" if cut else ""
    detail = (
        f"{node.uri}: {damage.detail} at byte {damage.offset:,} of {node.size:,}{with_it}; make the tar again"
    )
    size = max(node.size - damage.offset, 0)
    return refused(f"{name}/damaged@{damage.offset}", damage.reason, detail, uri=node.uri, size=size)


def _problem(member: Member, path: str) -> str | None:
    if member.kind != "file":
        return f"{path!r} is a {member.kind}, only regular files are read"
    if path.lower().endswith(PICKLED):
        return f"{path!r} is of a kind that readers unpickle, which runs what is in it; store .npy or .json"
    if member.name.startswith("/") or ".." in path.split("/") or "\\" in member.name:
        return f"{path!r} leads out of the archive"
    if re.search(r"[\x00-\x1f\x7f]", path) or not path or len(path) > MAX_NAME:
        return f"{path[:80]!r} is no usable name (control characters, empty, or above {MAX_NAME} letters)"
    return None


def _clean_path(name: str) -> str:
    """NFC, without "./" and doubled slashes; bytes that are not UTF-8 are spelt out."""
    parts = [part for part in clean_name(name).split("/") if part not in ("", ".")]
    return "/".join(parts)


def _printable(key: str) -> str:
    key = re.sub(r"[\x00-\x1f\x7f]", lambda m: f"\\x{ord(m[0]):02x}", key)[:200]
    return "/".join("(up)" if part == ".." else part for part in key.split("/")) or "(no name)"


def _is_litter(key: str, members: Iterable[str]) -> bool:
    base = key.rpartition("/")[2]
    return all(is_ignored(f"{base}.{extension}".rstrip(".")) for extension in members)
