"""The fields of the schema as a tree that can be listed, looked up by a dotted name, and described."""

import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from jobs.config import fields
from jobs.config.mistakes import Path, show, suggest
from jobs.config.schema import JOBS, Cut, Filter, Transform

TYPES: Final = {str: "text", int: "whole number", float: "number", bool: "true or false", dict: "mapping"}
TAGS: Final = tuple(get_args(stage.model_fields["kind"].annotation)[0] for stage in (Filter, Cut, Transform))


@dataclass(frozen=True)
class Field:
    """One field of one kind of job. `path` names the members of a list by their kind: stages.filter.min."""

    job: str
    path: str
    info: FieldInfo

    def text(self) -> str:
        """What `rayloom config explain` prints."""
        changes = fields.INCIDENTAL not in self.info.metadata and not _only_incidental(self.info)
        lines = [
            f"{self.path}  ({self.job})",
            f"  {self.info.description}" if self.info.description else "",
            f"  type     {describe(self.info)}",
            f"  default  {default(self.info)}",
            f"  changes the result: {'yes, it is part of the digest' if changes else 'no'}",
        ]
        return "\n".join(line for line in lines if line)


def tree(job: str) -> Iterator[Field]:
    """Every field of a kind of job, sections before what is in them."""
    yield from _tree(job, JOBS[job], "")


def _tree(job: str, section: type[BaseModel], prefix: str) -> Iterator[Field]:
    for name, info in section.model_fields.items():
        yield Field(job, prefix + name, info)
        members = _sections(info.annotation)
        for member in members:
            tag = f"{_kind(member)}." if len(members) > 1 else ""
            yield from _tree(job, member, f"{prefix}{name}.{tag}")


def lookup(name: str) -> list[Field]:
    """The fields a dotted name may mean, in any kind of job; LookupError suggests near ones."""
    wanted = [part for part in name.split(".") if not part.isdigit()]
    every = [field for job in JOBS for field in tree(job)]
    found = [field for field in every if wanted in (field.path.split("."), _untagged(field.path))]
    found = found or [field for field in every if field.path.split(".")[-len(wanted) :] == wanted]
    if not found:
        hint = suggest(name, [field.path for field in every]) or suggest(
            wanted[-1] if wanted else "", [field.path.rpartition(".")[2] for field in every]
        )
        raise LookupError(f"no field {name!r} in any kind of job{hint}")
    return found


def field_names(job: type[BaseModel], path: Path | None, value: Any) -> list[str]:
    """Names of the fields at a path of a document; with None, the dotted names of all fields of the job.

    At an item of a list that may hold several kinds, and with no value that says which, the kinds.
    """
    if path is None:
        return [field.path for field in _tree("", job, "")]
    members = [job]
    for part in path:
        if isinstance(part, str):
            info = members[0].model_fields.get(part)
            members = _sections(info.annotation) if info else []
        value = _child(value, part)
        if len(members) > 1 and isinstance(value, dict):
            members = [member for member in members if _kind(member) == value.get("kind")] or members
        if not members:
            return []
    return list(members[0].model_fields) if len(members) == 1 else [_kind(member) for member in members]


def describe(info: FieldInfo) -> str:
    """The type of a field in words, with its bounds."""
    if any(getattr(item, "func", None) is fields.parse_size for item in info.metadata):
        return "size in bytes, or with a unit: 256MiB, 1.5GB"
    bounds = [
        f"{sign} {getattr(bound, name)}"
        for bound in info.metadata
        for kind, sign, name in ((Gt, ">", "gt"), (Ge, ">=", "ge"), (Lt, "<", "lt"), (Le, "<=", "le"))
        if isinstance(bound, kind)
    ]
    return ", ".join([_words(info.annotation), *bounds])


def default(info: FieldInfo) -> str:
    if info.is_required():
        return "none, it must be given"
    value = info.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, BaseModel):
        return "the defaults below it"
    if any(getattr(item, "func", None) is fields.parse_size for item in info.metadata):
        return fields.format_size(value)
    if value in ((), {}):
        return "an empty list" if value == () else "an empty mapping"
    return show(value)


def _words(annotation: Any) -> str:
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return f"one of {', '.join(str(arg) for arg in args)}" if len(args) > 1 else str(args[0])
    if origin in (Union, types.UnionType):
        return " or ".join("null" if arg is type(None) else _words(arg) for arg in args)
    if origin is dict:
        return "mapping of names to values"
    if origin is tuple:
        return "list"
    if hasattr(annotation, "__metadata__"):
        inner = FieldInfo.from_annotation(annotation)
        return describe(inner)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"mapping of {', '.join(annotation.model_fields)}"
    return TYPES.get(annotation, "value")


def _sections(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [section for arg in get_args(annotation) for section in _sections(arg)]


def _kind(section: type[BaseModel]) -> str:
    return str(get_args(section.model_fields["kind"].annotation)[0])


def _untagged(path: str) -> list[str]:
    """The parts of a path without the kinds that `_tree` puts into it."""
    return [part for part in path.split(".") if part not in TAGS]


def _only_incidental(info: FieldInfo) -> bool:
    members = _sections(info.annotation)
    return bool(members) and all(
        fields.INCIDENTAL in inner.metadata for member in members for inner in member.model_fields.values()
    )


def _child(value: Any, part: str | int) -> Any:
    if isinstance(value, dict):
        return value.get(part)
    if isinstance(value, list) and isinstance(part, int) and part < len(value):
        return value[part]
    return None
