"""YAML text to plain values, each with the place it was written at. Stricter than YAML, and bounded.

Scalars follow the YAML 1.2 core schema: `no` is text, `1e-4` is a number, a date is text.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from jobs.config.mistakes import ConfigError, Mistake, Path, Place, dotted, show

MAX_BYTES: Final = 2**20
MAX_ALIASES: Final = 64
MAX_DEPTH: Final = 32
MAX_NODES: Final = 20_000  # after aliases are followed, so that few aliases cannot make many values

CORE: Final = {
    f"tag:yaml.org,2002:{name}": name for name in ("null", "bool", "int", "float", "str", "seq", "map")
}


class _Loader(yaml.CSafeLoader):
    """libyaml, with the plain scalars of YAML 1.2."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", "~nN"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}",
        re.compile(rf"^(?:{_pattern})$"),
        [*_first, *([""] if _tag == "null" else [])],
    )


@dataclass
class Document:
    """Values, and for every path the place of its key (of an item: of the item) and of its value."""

    value: Any
    keys: dict[Path, Place] = field(default_factory=dict)
    values: dict[Path, Place] = field(default_factory=dict)

    def place(self, path: Path, *, value: bool = False) -> Place:
        """Where the key at `path` was written, or its value, or the nearest thing around it that was."""
        if value and path in self.values:
            return self.values[path]
        for length in range(len(path), -1, -1):
            if (found := self.keys.get(path[:length])) is not None:
                return found
        raise AssertionError("a document has a root")

    def forget(self, path: Path) -> None:
        """Drop the places of `path` and of all below it."""
        for places in (self.keys, self.values):
            for known in [known for known in places if known[: len(path)] == path]:
                del places[known]


def parse(text: str, source: str, *, root: Path = (), override: bool = False) -> Document:
    """Read one YAML document; ConfigError with every mistake of form.

    Args:
        text: the YAML.
        source: what places are called: the file's name, or the override as written.
        root: path that the value will stand at.
        override: places are the override as a whole, without line and column.
    """
    reader = _Reader(source, override)
    try:
        reader.check_bounds(text)
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as e:
        mark = e.problem_mark or e.context_mark
        place = reader.place(mark) if mark else reader.start()
        raise ConfigError([Mistake(place, dotted(root), _explain(e, text))]) from None
    except yaml.reader.ReaderError as e:
        line = text.count("\n", 0, e.position) + 1 if isinstance(e.position, int) else 1
        place = reader.start() if override else Place(line, 1, source)
        raise ConfigError([Mistake(place, dotted(root), f"not text that YAML allows: {e.reason}")]) from None
    if node is None:
        if override:
            return Document(None, {root: reader.start()}, {root: reader.start()})
        raise ConfigError(
            [Mistake(Place(1, 1, source), "", "the file is empty; `rayloom init DIR` writes job files")]
        )
    value = reader.construct(node, root, depth=0)
    reader.document.value = value
    reader.document.keys.setdefault(root, reader.place(node.start_mark))
    if reader.mistakes:
        raise ConfigError(reader.mistakes)
    return reader.document


class _Reader:
    def __init__(self, source: str, override: bool) -> None:
        self.source, self.override = source, override
        self.document, self.mistakes = Document(None), list[Mistake]()
        self.num_nodes = 0

    def start(self) -> Place:
        return Place(0 if self.override else 1, 0 if self.override else 1, self.source)

    def place(self, mark: Any) -> Place:
        return self.start() if self.override else Place(mark.line + 1, mark.column + 1, self.source)

    def check_bounds(self, text: str) -> None:
        """Count aliases and depth on the event stream, before anything is built."""
        aliases = depth = documents = 0
        for event in yaml.parse(text, Loader=_Loader):
            aliases += isinstance(event, yaml.AliasEvent)
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            documents += isinstance(event, yaml.DocumentStartEvent)
            for count, limit, what in (
                (aliases, MAX_ALIASES, "aliases (*name)"),
                (depth, MAX_DEPTH, "levels of nesting"),
                (documents, 1, "document; one job file is one job"),
            ):
                if count > limit:
                    raise ConfigError(
                        [Mistake(self.place(event.start_mark), "", f"more than {limit} {what}")]
                    )

    def construct(self, node: yaml.Node, path: Path, *, depth: int) -> Any:
        """The node's value; its places and mistakes are noted."""
        self.num_nodes += 1
        if self.num_nodes > MAX_NODES or depth > MAX_DEPTH:
            raise ConfigError(
                [Mistake(self.place(node.start_mark), dotted(path), "aliases make it too large")]
            )
        self.document.values[path] = self.place(node.start_mark)
        if node.tag not in CORE:
            tag = node.tag.replace("tag:yaml.org,2002:", "!!")
            self.wrong(node, path, f"the tag {tag} is not allowed; a job file holds plain values only")
            return None
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, path, depth)
        if isinstance(node, yaml.SequenceNode):
            return [self.item(child, (*path, index), depth) for index, child in enumerate(node.value)]
        return self.scalar(node, path)

    def item(self, node: yaml.Node, path: Path, depth: int) -> Any:
        self.document.keys[path] = self.place(node.start_mark)
        return self.construct(node, path, depth=depth + 1)

    def mapping(self, node: yaml.MappingNode, path: Path, depth: int) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self.wrong(key_node, path, "a key must be a word, not a mapping or a list")
                continue
            key, child = key_node.value, (*path, key_node.value)
            if CORE.get(key_node.tag) != "str" or key == "<<":
                self.wrong(key_node, child, "a key must be a word, not a number, null or a merge key (<<)")
            elif key in values:
                first = self.document.keys[child]
                where = f", first on line {first.line}" if first.line else ""
                self.wrong(key_node, child, f"the key stands twice{where}; keep one of them")
            else:
                self.document.keys[child] = self.place(key_node.start_mark)
                values[key] = self.construct(value_node, child, depth=depth + 1)
        return values

    def scalar(self, node: yaml.Node, path: Path) -> Any:
        text, kind = str(node.value), CORE[node.tag]
        try:
            match kind:
                case "null":
                    return None
                case "bool":
                    return {"true": True, "false": False}[text.lower()]
                case "int":
                    return _integer(text)
                case "float":
                    return float(re.sub(r"\.(inf|nan)$", r"\1", text.lower()))
        except (ValueError, KeyError):
            self.wrong(node, path, f"is not a value of the type {kind}")
        return text

    def wrong(self, node: yaml.Node, path: Path, cause: str) -> None:
        got = show(node.value) if isinstance(node, yaml.ScalarNode) else ""
        self.mistakes.append(Mistake(self.place(node.start_mark), dotted(path), cause, got))


def _integer(text: str) -> int:
    if len(text) > 40:  # Python's own conversion is quadratic, and no field needs such numbers
        raise ValueError(text)
    return int(text, {"0x": 16, "0o": 8}.get(text[:2], 10))


def _explain(error: yaml.MarkedYAMLError, text: str) -> str:
    problem = error.problem or "not YAML"
    mark = error.problem_mark
    lines = text.splitlines()
    if mark is not None and mark.line < len(lines) and "\t" in lines[mark.line][: mark.column + 1]:
        return "a tab; YAML is indented with spaces"
    if "mapping values are not allowed" in problem:
        return f"{problem}; check the indentation, and quote a text with a colon in it"
    return f"not YAML: {problem}" + (f", {error.context}" if error.context else "")


def scalars(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every scalar below `value` with its path."""
    if isinstance(value, dict):
        for key, child in value.items():
            yield from scalars(child, (*path, key))
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from scalars(child, (*path, index))
    else:
        yield path, value
