"""The member of a sample that is ours: what it is, where it came from, which scene it is of."""

from collections.abc import Iterable, Mapping
from typing import Any

from modalities.base import BadSample, Files
from pipelines.jsontext import loads

MEMBERS = ("meta.json", "rayloom.json")  # ours is the first that the source does not have for itself
_ALWAYS = {"modality", "source", "meta"}
_EVER = _ALWAYS | {"group", "label", "before"}


def find(files: Files) -> tuple[str, Mapping[str, Any]] | None:
    """The facts of an earlier ingest and the name they go by; a `meta.json` of the user's own is none."""
    for name in reversed(MEMBERS):
        try:
            facts = loads(files[name])
        except (KeyError, ValueError, RecursionError):
            continue
        if (
            isinstance(facts, dict)
            and facts.keys() >= _ALWAYS
            and facts.keys() <= _EVER
            and isinstance(facts["source"], str)
            and isinstance(facts["meta"], dict)
        ):
            return name, facts
    return None


def scene(files: Files) -> str | None:
    """The scene that a sample of an earlier dataset is of: its pieces still share a split."""
    return _told(files, "group")


def class_name(files: Files) -> str | None:
    """The class that an earlier dataset had it in: its `cls` is a number in that dataset's list."""
    return _told(files, "label")


def _told(files: Files, name: str) -> str | None:
    found = find(files)
    value = found[1].get(name) if found else None
    return value if isinstance(value, str) and 0 < len(value) <= 4096 else None


def before(files: Files) -> Mapping[str, Any]:
    """What only the earlier facts know: {"before": {source, piece, before}}, or nothing."""
    found = find(files)
    if found is None:
        return {}
    facts = found[1]
    kept = {name: facts[name] for name in ("source", "before") if name in facts}
    if "piece" in facts["meta"]:
        kept["piece"] = facts["meta"]["piece"]
    return {"before": kept}


def member(taken: Iterable[str]) -> str:
    """The name for our facts beside files of these names. BadSample "name-clash" if there is none."""
    free = [name for name in MEMBERS if name not in taken]
    if not free:
        raise BadSample("name-clash", f"the source has {' and '.join(MEMBERS)}; rename one of them")
    return free[0]
