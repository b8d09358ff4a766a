"""`key.path=value` on the command line, laid over a document before it is checked."""

from collections.abc import Sequence
from typing import Any

from jobs.config import secrets
from jobs.config.document import Document, parse
from jobs.config.mistakes import ConfigError, Mistake, Path, Place, dotted, show


def apply(document: Document, overrides: Sequence[str]) -> None:
    """Lay every override over the document, in order; ConfigError names those that do not fit."""
    mistakes: list[Mistake] = []
    for override in overrides:
        try:
            _apply_one(document, override)
        except ConfigError as e:
            mistakes += e.mistakes
    if mistakes:
        raise ConfigError(mistakes)


def _apply_one(document: Document, override: str) -> None:
    name, equals, text = override.partition("=")
    place = Place(0, 0, f"override {_shown(name, equals, text)}")
    if not equals:
        raise ConfigError([Mistake(place, "", "an override is written key.path=value")])
    parts = name.strip().split(".")
    if not all(parts):
        raise ConfigError(
            [Mistake(place, name, "an empty name in the path; write it like shards.max_bytes=64MiB")]
        )
    target, path = _descend(document, parts, place)
    new = parse(text, place.source, root=path, override=True)
    last = path[-1]
    document.forget(path)
    target[last] = new.value
    document.keys |= new.keys | {path: place}
    document.values |= new.values | {path: place}


def _descend(document: Document, parts: list[str], place: Place) -> tuple[Any, Path]:
    """The mapping or list that holds the last part, made where it is missing, and the path as keys."""
    node: Any = document.value
    path: Path = ()
    for depth, part in enumerate(parts):
        key: str | int = part
        if isinstance(node, list):
            if not (part.isascii() and part.isdigit() and len(part) < 10 and int(part) < len(node)):
                there = f"has {len(node)} items, 0 to {len(node) - 1}" if node else "is empty"
                cause = f"{dotted(path)} is a list and {there}; there is no {part!r}"
                raise ConfigError([Mistake(place, dotted((*path, part)), cause)])
            key = int(part)
        elif not isinstance(node, dict):
            cause = f"{dotted(path) or 'the file'} is a single value, it has nothing below it"
            raise ConfigError([Mistake(place, ".".join(parts), cause, show(node))])
        path = (*path, key)
        if depth < len(parts) - 1:
            if isinstance(node, dict) and node.get(part) is None:
                node[part] = {}
                document.keys.setdefault(path, place)
                document.values[path] = place
            node = node[key]
    return node, path


def _shown(name: str, equals: str, text: str) -> str:
    """The override as written, cut to a line, and without what may not be printed."""
    if secrets.find((name.rpartition(".")[2],), text):
        text = "..."
    override = name + equals + text
    return repr(override if len(override) <= 80 else override[:77] + "...")
