"""Which files of a folder are objects, and which belong to another: a modality's patterns, applied."""

import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase, translate
from functools import lru_cache

from modalities.base import Modality

SIDECARS = ("cls", "txt", "json", "seg.png")  # files of an object's stem that ride along
_IGNORED_NAMES = frozenset(
    {
        *("readme", "readme.txt", "readme.rst", "license", "license.txt", "licence", "licence.txt"),
        *("thumbs.db", "desktop.ini", "_success"),
    }
)
_IGNORED_ENDS = (".md", ".license")
_RIDING = tuple(f".{extension}" for extension in SIDECARS)
is_wild = re.compile(r"[*?\[]").search
_IGNORED_FOLDERS = ("__macosx",)


def is_hidden(name: str) -> bool:
    """Dot files and what archivers leave behind: never an object, whatever the modality or glob."""
    return name.startswith(".") or name.lower() in _IGNORED_FOLDERS


def may_ride(name: str) -> bool:
    """Whether a file is called as sidecars are."""
    return name.lower().endswith(_RIDING)


def is_ignored(name: str) -> bool:
    """Files people put beside data. Everything else that matches nothing becomes an entry and is refused."""
    lower = name.lower()
    return lower in _IGNORED_NAMES or lower.endswith(_IGNORED_ENDS)


@lru_cache(maxsize=256)
def suffix_of(pattern: str) -> str:
    """Of "*.pcd.bin" it is ".pcd.bin"; a whole name ("lights.npy") is its own suffix."""
    return pattern.rpartition("*")[2].rstrip("/").lower()


_Compiled = list[tuple[str, re.Pattern[str]]]


@lru_cache(maxsize=64)
def _compile(patterns: tuple[str, ...]) -> tuple[dict[str, _Compiled], _Compiled]:
    """Patterns and what they match, the one that wins first: by last extension, and those for any other."""
    order = sorted(patterns, key=lambda p: ("*" not in p, len(suffix_of(p)), p), reverse=True)
    compiled = [(pattern, re.compile(translate(pattern.lower()))) for pattern in order]
    last = {pattern: pattern.lower().rpartition(".")[1:] for pattern in patterns}
    open_ended = {p for p, (dot, extension) in last.items() if not dot or set(extension) & set("*?[]")}
    return {
        extension: [(p, regex) for p, regex in compiled if p in open_ended or last[p][1] == extension]
        for pattern, (_, extension) in last.items()
        if pattern not in open_ended
    }, [(p, regex) for p, regex in compiled if p in open_ended]


def find_pattern(filename: str, modality: Modality) -> str | None:
    """The pattern a file name ("x.jpg") or folder name ("x.zarr/") matches; the longest suffix wins."""
    lower = filename.lower()
    by_extension, others = _compile(modality.patterns)
    for pattern, regex in by_extension.get(lower.rpartition(".")[2], others):
        if regex.match(lower):
            return pattern
    return None


def stem_of(filename: str, pattern: str | None) -> str:
    """The name without the suffix of its pattern; without the last extension where no pattern matched."""
    filename = filename.rstrip("/")
    if pattern is None or "*" not in pattern:
        return filename.rpartition(".")[0] or filename
    return filename[: len(filename) - len(suffix_of(pattern))] or filename


def lone_extensions(modality: Modality) -> dict[str, bool]:
    """Extensions, in lower case, of files that are objects whatever lies beside them, sidecars apart.

    True where the extension is all that their pattern asks for, so that the rest of a name is its stem.
    """
    by_extension, open_ended = _compile(modality.patterns)
    lone = {}
    for extension, compiled in by_extension.items():
        patterns = [pattern for pattern, _ in compiled]
        ends = all(re.fullmatch(r"\*\.[^*?\[/]+", pattern) for pattern in patterns)
        globs = [glob for pattern in patterns for glob in modality.companions.get(pattern, ())]
        if ends and all(_is_no_object(glob, by_extension) for glob in globs) and not open_ended:
            lone[extension] = [pattern.lower() for pattern in patterns] == [f"*.{extension}"]
    return lone


def _is_no_object(glob: str, by_extension: Mapping[str, object]) -> bool:
    """Whether what a companion glob takes has an extension of no object, or is called as sidecars are."""
    rest = glob.lower().removeprefix("{stem}.")
    literal = len(rest) < len(glob) and not re.search(r"[*?\[/{]", rest)
    return literal and (rest in SIDECARS or rest.rpartition(".")[2] not in by_extension)


def lone_objects(
    names: Iterable[str], lone: Mapping[str, bool], modality: Modality
) -> tuple[list[str], list[str]] | None:
    """Names and stems, without what nobody means as data. None: one may be more than an object by itself.

    `names`: of all files of a folder. lone: what `lone_extensions` says.
    """
    found: list[str] = []
    stems: list[str] = []
    for name in names:
        stem, _, extension = name.rpartition(".")
        plain = lone.get(extension) if extension.islower() else lone.get(extension.lower())
        if plain is not None and stem and not may_ride(name):
            found.append(name)
            stems.append(stem if plain else stem_of(name, find_pattern(name, modality)))
        elif not is_ignored(name):
            return None
    return found, stems


def companion_globs(pattern: str, stem: str, modality: Modality) -> list[str]:
    """Globs, lower case and relative to the object's folder, of the files that belong to it."""
    if pattern not in modality.companions:
        return []
    escaped = re.sub(r"([*?\[])", r"[\1]", stem)
    return [glob.replace("{stem}", escaped).lower() for glob in modality.companions[pattern]]


def claim(names: Iterable[str], candidates: Iterable[str], modality: Modality) -> dict[str, set[str]]:
    """Objects among the files `names` of one folder -> the files each has beside it as companions.

    `candidates` are those that may be objects. Whole names ("lights.npy") choose first, then longer
    suffixes, so that a file with a claim on the whole folder gets it; who has been claimed claims nothing.
    """
    names = sorted(names)
    lower: dict[str, list[str]] = {}
    for name in names:
        lower.setdefault(name.lower(), []).append(name)
    found = {name: pattern for name in candidates if (pattern := find_pattern(name, modality))}
    claims: dict[str, set[str]] = {}
    taken: set[str] = set()
    for name in sorted(found, key=lambda n: ("*" in found[n], -len(suffix_of(found[n])), n)):
        if name in taken:
            continue
        stem = stem_of(name, found[name])
        beside: set[str] = set()
        for glob in companion_globs(found[name], stem, modality):
            # a folder of a million files: only globs that need it look at every name
            near = names if is_wild(glob) else lower.get(glob, ())
            beside |= {other for other in near if _belongs(other.lower(), glob, stem.lower())}
        claims[name] = {other for other in beside if other != name and other not in claims}
        taken |= claims[name]
    return claims


def fits(name: str, glob: str) -> bool:
    """fnmatch, but a plain name is compared: what it remembers of a glob is 1 kB, and takes 100 us."""
    return fnmatchcase(name, glob) if is_wild(glob) else name == glob


def _belongs(name: str, glob: str, stem: str) -> bool:
    """Whether a companion glob takes a file; "*", the whole folder, leaves the object its cls and txt."""
    return fits(name, glob) and not (glob == "*" and name in (f"{stem}.cls", f"{stem}.txt"))


def find_sidecars(names: Iterable[str], objects: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Objects (name -> stem) -> {extension: file}, from the files `names` of the same folder.

    A file can be both ("a.seg.png" is also an image): it is a sidecar if an object of that stem is there.
    """
    lower = {name.lower(): name for name in sorted(names, reverse=True)}
    both = {n for n, stem in objects.items() if any(n.lower() == f"{stem}.{e}".lower() for e in SIDECARS)}
    sidecars: dict[str, dict[str, str]] = {}
    taken: set[str] = set()
    for name in sorted(objects, key=lambda n: (n in both, n)):
        if name in taken:
            continue
        beside = {e: lower[f] for e in SIDECARS if (f := f"{objects[name]}.{e}".lower()) in lower}
        sidecars[name] = {extension: file for extension, file in beside.items() if file != name}
        taken |= {*sidecars[name].values()}
    return sidecars


@lru_cache(maxsize=64)
def compile_glob(glob: str) -> re.Pattern[str]:
    """A glob over whole relative paths: `*` and `?` stay inside one part, `**` spans any number of parts."""
    out = []
    parts = glob.strip("/").split("/")
    for i, part in enumerate(parts):
        last = i == len(parts) - 1
        if part == "**":
            out.append(".*" if last else "(?:[^/]+/)*")
            continue
        i = 0
        while i < len(part):
            end = part.find("]", i + 2)
            if part[i] == "*":
                out.append("[^/]*")
            elif part[i] == "?":
                out.append("[^/]")
            elif part[i] == "[" and end > 0:
                inside = part[i + 1 : end].replace("\\", r"\\")
                out.append("[" + ("^" + inside[1:] if inside[0] == "!" else inside) + "]")
                i = end
            else:
                out.append(re.escape(part[i]))
            i += 1
        out.append("" if last else "/")
    return re.compile("".join(out), re.DOTALL)
