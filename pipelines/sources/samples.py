"""A WebDataset sample, files of one key by extension, as one object with what rides along."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from modalities.base import Modality
from pipelines.sources.matching import SIDECARS, companion_globs, find_pattern, fits, stem_of


@dataclass(frozen=True, kw_only=True)
class Sample:
    """name: the primary file in its source. companions: their name beside it -> extension."""

    name: str
    primary: str
    companions: Mapping[str, str]
    sidecars: tuple[str, ...]


def arrange(key: str, extensions: Iterable[str], modality: Modality) -> Sample:
    """Which file of a sample is the object, which belong to it, which ride along.

    The object is the one whose name matches the modality's patterns, the plainest extension first; without
    any, the first file, and its probe will say what is wrong with it. A whole-name pattern ("lights.npy") is
    met by that extension, for a sample is then a folder whose files are named by extension.
    """
    extensions = sorted(extensions)
    base = key.rpartition("/")[2]
    whole = {pattern.lower() for pattern in modality.patterns if not set(pattern) & set("*?[/")}

    def rank(extension: str) -> tuple[bool, bool, bool, int, str]:
        matches = find_pattern(f"{base}.{extension}", modality) is not None
        is_whole = extension.lower() in whole
        plain = extension.count(".")
        return not (matches or is_whole), extension in SIDECARS, not is_whole, plain, extension

    primary = min(extensions, key=rank)
    if primary.lower() in whole:
        name, pattern, beside = f"{key}/{primary}", primary.lower(), {e: e for e in extensions}
    else:
        name = f"{key}.{primary}" if primary else key
        pattern = find_pattern(f"{base}.{primary}", modality) or ""
        beside = {f"{base}.{e}" if e else base: e for e in extensions}
    globs = companion_globs(pattern, stem_of(name.rpartition("/")[2], pattern or None), modality)
    companions = {
        inner: extension
        for inner, extension in beside.items()
        if extension != primary
        and not (primary.lower() in whole and extension in SIDECARS)
        and any(fits(inner.lower(), glob) for glob in globs)
    }
    riders = tuple(e for e in extensions if e != primary and e not in companions.values())
    return Sample(name=name, primary=primary, companions=companions, sidecars=riders)
