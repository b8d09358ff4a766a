"""An existing tar, listed by its headers: members grouped as WebDataset groups them, nothing extracted."""

import re
from collections.abc import Iterator

from modalities.base import BadSample, Modality
from pipelines.answers import STORE_FAILED
from pipelines.sources.entry import Entry, Part, refused
from pipelines.sources.folder import part_of
from pipelines.sources.headers import Damage, Member, read_members
from pipelines.sources.matching import is_hidden, is_ignored
from pipelines.sources.samples import arrange
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


def list_tar(store: Store, node: Node, modality: Modality, *, name: str) -> Iterator[Entry]:
    """Samples of a tar, sorted by key; its members' headers are in memory meanwhile, its data are not.

    A sample of which a member must not be read is refused as a whole. What lies behind a damaged place is
    one refused entry, with the sample that was being read there, for nobody knows what it lacks; with every
    sample, if members of samples do not lie together.
    """
    samples: dict[str, dict[str, Member]] = {}
    problems: dict[str, tuple[str, str]] = {}  # key -> why its sample is refused
    damage: Damage | None = None
    last, apart = "", False
    for member in _members(store, node):
        if isinstance(member, Damage):
            damage = member
            break
        path = _clean_path(member.name)
        key, extension = split_key(path)
        if member.kind == "file" and ".." not in path.split("/") and any(map(is_hidden, path.split("/"))):
            continue
        if problem := _problem(member, path):
            problems.setdefault(key, ("unsafe", problem))
            samples.setdefault(key, {})
        elif extension in samples.setdefault(key, {}):
            problems.setdefault(
                key, ("unsafe", f"two members are called {path!r}; nobody can say which is meant")
            )
        else:
            apart = apart or (key != last and bool(samples[key]))
            samples[key][extension] = member
        last = key
    cut = _cut_samples(damage, samples, last, apart) if damage else set[str]()
    for key in sorted(samples):
        if key in cut:
            continue
        if key in problems:
            yield refused(f"{name}/{_printable(key)}", *problems[key], uri=node.uri)
        elif not _is_litter(key, samples[key]):
            yield _entry(node, name, key, samples[key], modality)
    if damage:
        yield _remainder(node, name, damage, cut)


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


def _entry(node: Node, name: str, key: str, members: dict[str, Member], modality: Modality) -> Entry:
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


def _cut_samples(damage: Damage, samples: dict[str, dict[str, Member]], last: str, apart: bool) -> set[str]:
    """Keys of which a member may lie behind the damage."""
    if damage.whole:
        return set()
    if apart:  # members of a sample do not lie together, so any of them may have lost one
        return set(samples)
    damaged = split_key(_clean_path(damage.member))[0] if damage.member else last
    return {damaged} & set(samples)


def _remainder(node: Node, name: str, damage: Damage, cut: set[str]) -> Entry:
    with_it = (
        f"; with it {len(cut)} samples that may lack a member ({', '.join(sorted(cut)[:3])})" if cut else ""
    )
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


def _is_litter(key: str, members: dict[str, Member]) -> bool:
    base = key.rpartition("/")[2]
    return all(is_ignored(f"{base}.{extension}".rstrip(".")) for extension in members)
