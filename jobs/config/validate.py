"""Check a document against the schema of its kind, and say in words what does not fit."""

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from jobs.config import secrets
from jobs.config.document import Document, scalars
from jobs.config.fieldtree import field_names
from jobs.config.mistakes import ConfigError, Mistake, Path, dotted, show, suggest
from jobs.config.schema import JOBS, Job

WORDS: Final = {  # pydantic's name of a mistake -> ours
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "string_type": "must be text; put it in quotes",
    "string_too_short": "must not be empty",
    "dict_type": "must be a mapping (name: value)",
    "model_type": "must be a mapping (name: value)",
    "model_attributes_type": "must be a mapping (name: value)",
    "tuple_type": "must be a list (- item)",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be {ge} or more",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be {le} or less",
}


def validate(document: Document, earlier: Sequence[Mistake] = ()) -> Job:
    """The job a document describes; ConfigError with every mistake in it, `earlier` ones included."""
    mistakes = list(earlier)
    if not isinstance(document.value, dict):
        place = document.place(())
        raise ConfigError(
            [*mistakes, Mistake(place, "", "a job file is a mapping (name: value)", show(document.value))]
        )
    leaks = dict(_leaks(document))
    mistakes += leaks.values()
    kind = document.value.get("kind")
    if not (isinstance(kind, str) and kind in JOBS):
        raise ConfigError([*mistakes, _bad_kind(document)])
    try:
        job = JOBS[kind].model_validate(document.value)
    except ValidationError as e:
        details = e.errors(include_url=False)
        found = [
            (path, mistake) for path, mistake in _translate(details, document, kind) if path not in leaks
        ]
        mistakes += [mistake for _, mistake in found]
        raise ConfigError(mistakes) from None
    if mistakes:
        raise ConfigError(mistakes)
    return job


def _leaks(document: Document) -> Iterator[tuple[Path, Mistake]]:
    for path, value in scalars(document.value):
        if (what := secrets.find(path, value)) is not None:
            cause = f"looks like {what}; {secrets.ADVICE}"
            yield path, Mistake(document.place(path, value=True), dotted(path), cause)


def _bad_kind(document: Document) -> Mistake:
    kinds = ", ".join(JOBS)
    if "kind" not in document.value:
        near = next((key for key in document.value if suggest(key, ["kind"])), None)
        hint = f"; is {near!r} meant to be it?" if near else ""
        return Mistake(document.place(()), "kind", f"missing; a job needs kind: one of {kinds}{hint}")
    kind = document.value["kind"]
    cause = f"must be one of {kinds}{suggest(str(kind), JOBS)}"
    return Mistake(document.place(("kind",), value=True), "kind", cause, show(kind))


def _translate(
    details: Sequence[ErrorDetails], document: Document, kind: str
) -> Iterator[tuple[Path, Mistake]]:
    misspelt: set[Path] = set()  # fields that an unknown one was probably meant to be
    missing: list[tuple[Path, Mistake]] = []
    for detail in details:
        path = _path(detail["loc"], document.value)
        got = show(detail["input"])
        match detail["type"]:
            case "extra_forbidden":
                cause, meant = _unknown(path, document, kind)
                misspelt |= {meant} if meant else set()
                yield path, Mistake(document.place(path), dotted(path), cause, got)
            case "missing":
                cause = f"missing; add {path[-1]}: ..."
                missing.append((path, Mistake(document.place(path[:-1]), dotted(path), cause)))
            case "union_tag_not_found":
                path = (*path, "kind")
                cause = f"missing; kind is one of {_tags(path[:-1], kind)}"
                yield path, Mistake(document.place(path[:-1]), dotted(path), cause)
            case "union_tag_invalid":
                path = (*path, "kind")
                expected = re.findall(r"'([^']+)'", detail["ctx"]["expected_tags"])
                tag = detail["ctx"]["tag"]
                cause = f"must be one of {', '.join(expected)}{suggest(str(tag), expected)}"
                yield path, Mistake(document.place(path, value=True), dotted(path), cause, show(tag))
            case _:
                yield path, Mistake(document.place(path, value=True), dotted(path), _cause(detail), got)
    yield from (pair for pair in missing if pair[0] not in misspelt)


def _cause(detail: ErrorDetails) -> str:
    context: dict[str, Any] = detail.get("ctx", {})
    kind, value = detail["type"], detail["input"]
    if kind == "value_error":
        return str(context["error"])
    if kind == "literal_error":
        expected = re.findall(r"'([^']+)'", context["expected"])
        hint = suggest(value, expected) if isinstance(value, str) else ""
        return f"must be one of {', '.join(expected)}{hint}"
    if kind in {"int_type", "float_type"} and isinstance(value, str) and _is_number(value):
        return f"{WORDS[kind]}; take the quotes away"
    if kind in WORDS:
        return WORDS[kind].format(
            **{k: f"{bound:g}" if isinstance(bound, float) else bound for k, bound in context.items()}
        )
    return detail["msg"]


def _unknown(path: Path, document: Document, kind: str) -> tuple[str, Path | None]:
    """Cause of an unknown field, and the path it was probably meant to have."""
    name, parent = str(path[-1]), path[:-1]
    siblings = field_names(JOBS[kind], parent, document.value)
    everywhere = field_names(JOBS[kind], None, document.value)
    if elsewhere := [known for known in everywhere if known.rpartition(".")[2] == name]:
        return f"unknown field here; did you mean {elsewhere[0]!r}?", None
    others = [other for other, model in JOBS.items() if other != kind and name in model.model_fields]
    if others and not parent:
        return f"unknown field; a job of kind {' or '.join(others)} has it, kind here is {kind}", None
    written = _at(document.value, parent)
    if hint := suggest(name, [sibling for sibling in siblings if sibling not in written]):
        meant = hint.rpartition("did you mean ")[2].strip("'?")
        return f"unknown field{hint}", (*parent, meant)
    return f"unknown field{suggest(name, siblings)}; known are {', '.join(siblings)}", None


def _path(loc: tuple[str | int, ...], value: Any) -> Path:
    """Pydantic's location without the names of union members, which the document does not have."""
    path: Path = ()
    for position, part in enumerate(loc):
        if isinstance(value, dict) and part not in value and part == value.get("kind") and path:
            continue
        path = (*path, part)
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            value = value[part]
        else:
            return (*path, *loc[position + 1 :])
    return path


def _at(value: Any, path: Path) -> Any:
    for part in path:
        value = value[part]
    return value


def _tags(path: Path, kind: str) -> str:
    return ", ".join(field_names(JOBS[kind], path, None))


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[-+]?\d+(\.\d*)?([eE][-+]?\d+)?", text.strip()) is not None
