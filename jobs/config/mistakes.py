"""What is wrong with a job file, where, and what was probably meant."""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Path = tuple[str | int, ...]  # ("stages", 0, "min")


@dataclass(frozen=True, order=True)
class Place:
    """Where a value was written: a line and column of the file, both from 1, or an override, line 0."""

    line: int
    column: int
    source: str

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}" if self.line else self.source


@dataclass(frozen=True)
class Mistake:
    """One thing to correct. `got` is empty where there is nothing to show, or where it must not be shown."""

    place: Place
    path: str
    cause: str
    got: str = ""

    def __str__(self) -> str:
        parts = [str(self.place), self.path, self.cause, f"(got {self.got})" if self.got else ""]
        return "  ".join(part for part in parts if part)


class ConfigError(ValueError):
    """Every mistake in a job file and its overrides, one a line, in the order of the file."""

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        super().__init__(tuple(mistakes))
        self.mistakes = tuple(sorted(mistakes, key=lambda mistake: mistake.place))

    def __str__(self) -> str:
        return "\n".join(str(mistake) for mistake in self.mistakes)


def suggest(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'max_bytes'?` when a known word is near, else nothing."""
    by_folded = {name.lower().replace("-", "_"): name for name in known}
    near = difflib.get_close_matches(word.lower().replace("-", "_"), by_folded, n=1, cutoff=0.6)
    return f"; did you mean {by_folded[near[0]]!r}?" if near else ""


def dotted(path: Path) -> str:
    """`stages.0.min`: the spelling that overrides take."""
    return ".".join(str(part) for part in path)


def show(value: object) -> str:
    """A value as the user wrote it, about; long ones are cut."""
    if value is None or isinstance(value, bool):
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
