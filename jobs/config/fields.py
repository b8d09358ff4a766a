"""Types of single values in a job file: places, byte sizes, options. Their errors are what the user reads."""

import math
import re
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from jobs.config.mistakes import suggest

SCHEMES: Final = ("file", "s3", "gs", "az", "abfs", "http", "https")
UNITS: Final = {"": 1, "B": 1} | {f"{p}B": 1000**n for n, p in enumerate("KMGT", 1)}
BINARY: Final = {f"{p}iB": 1024**n for n, p in enumerate("KMGT", 1)}

Scalar = str | int | float | bool


class Incidental:
    """Marks a field that says where, how fast or how patiently a job runs, not what comes out of it."""


INCIDENTAL: Final = Incidental()


def parse_place(text: str) -> str:
    """A local path or a URL of a known scheme, unchanged; ValueError says why it is refused."""
    if not text.strip():
        raise ValueError("is empty; give a local path or a URL such as s3://bucket/folder")
    if text != text.strip() or any(ord(letter) < 32 for letter in text):
        raise ValueError("has white space around it or control characters in it")
    if "::" in text:
        raise ValueError(
            "is a chained URL (::), which can reach more than it names; unpack the archive first"
        )
    if text.lower().startswith("pipe:") or "|" in text.partition("://")[0]:
        raise ValueError("is a shell command; jobs run none, copy the data to a folder or an object store")
    scheme, colon, rest = text.partition(":")
    if colon and re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", scheme):
        if scheme.lower() == "memory":
            raise ValueError("is memory of one process, which workers do not see; use a folder or s3://")
        if scheme not in SCHEMES:
            raise ValueError(
                f"has the scheme {scheme!r}; known are {', '.join(SCHEMES)}{suggest(scheme, SCHEMES)}"
            )
        if not rest.startswith("//"):
            raise ValueError(f"is neither a URL ({scheme}://...) nor a plain path (./{text})")
    return text


def parse_output(text: str) -> str:
    """A place that can be written to."""
    if parse_place(text).startswith(("http://", "https://")):
        raise ValueError("is read-only over http; write to a local path, s3://, gs://, az:// or abfs://")
    return text


def parse_size(value: Any) -> Any:
    """Bytes of `268435456`, `256MiB`, `1.5 GB`; anything else goes on unchanged, for the type to refuse."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", value)
    if match is None:
        raise ValueError("is not a size; write bytes or a number with a unit: 268435456, 256MiB, 1.5GB")
    number, unit = match.groups()
    known = {name.lower(): size for name, size in (UNITS | BINARY).items()}
    if unit.lower() not in known:
        raise ValueError(
            f"has the unit {unit!r}; known are {', '.join(name for name in UNITS | BINARY if name)}"
        )
    return int(float(number) * known[unit.lower()])


def format_size(size: int) -> str:
    """The largest binary unit that divides `size`: `256MiB`, else the plain number."""
    for unit, step in reversed(BINARY.items()):
        if size and size % step == 0:
            return f"{size // step}{unit}"
    return str(size)


def parse_scalar(value: Any) -> Any:
    if not isinstance(value, str | int | float | bool):
        raise ValueError("must be one text, number or true/false")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("must be a finite number")
    return value


def parse_options(options: Any) -> Any:
    """What a function takes as keyword arguments: names to scalars or flat lists of scalars.

    A mapping inside is another spelling of dotted names: {head: {unit: true}} is {"head.unit": true}.
    """
    if not isinstance(options, dict):
        return options
    found: dict[str, Any] = {}
    for name, value in options.items():
        if not (isinstance(name, str) and all(part.isidentifier() for part in name.split("."))):
            raise ValueError(f"{name!r} is not the name of an option")
        if isinstance(value, dict):
            found |= {f"{name}.{inner}": item for inner, item in parse_options(value).items()}
            continue
        items = value if isinstance(value, list | tuple) else [value]
        if not all(item is None or isinstance(item, str | int | float | bool) for item in items):
            raise ValueError(f"the option {name!r} must be one value or a flat list of values")
        if any(isinstance(item, float) and not math.isfinite(item) for item in items):
            raise ValueError(f"the option {name!r} must be a finite number")
        found[name] = tuple(value) if isinstance(value, list) else value
    return found


def parse_sequence(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def parse_step(step: Any) -> Any:
    """`flip`, or {flip: {probability: 0.2}}: the name of a change of samples, with its options."""
    if isinstance(step, str):
        return {step: {}}
    if not isinstance(step, dict) or len(step) != 1:
        raise ValueError(
            "is not a step; write its name, or its name with options: {flip: {probability: 0.2}}"
        )
    ((name, options),) = step.items()
    return {name: options or {}}


def parse_name(text: str) -> str:
    """What goes before keys: one part of a path that every tar reader agrees on."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,60}", text):
        raise ValueError("must be 1 to 60 of the characters A-Z a-z 0-9 _ -")
    return text


def parse_field(text: str) -> str:
    """What a filter looks at."""
    if not re.fullmatch(r"(quality|meta)\.[\w.-]+|label|caption", text):
        word = text.partition(".")[0]
        hint = suggest(word, ("quality", "meta", "label", "caption"))
        raise ValueError(f"is not a field; write quality.NAME, meta.NAME, label or caption{hint}")
    return text


Place = Annotated[str, AfterValidator(parse_place)]
SourceName = Annotated[str, AfterValidator(parse_name)]
FieldName = Annotated[str, AfterValidator(parse_field)]
OutputPlace = Annotated[str, AfterValidator(parse_output)]
ByteSize = Annotated[
    int,
    BeforeValidator(parse_size),
    Field(gt=0),
    WithJsonSchema({"anyOf": [{"type": "integer"}, {"type": "string"}], "examples": ["256MiB", 268435456]}),
]
Option = Annotated[
    Any, BeforeValidator(parse_scalar), WithJsonSchema({"type": ["string", "number", "boolean"]})
]
Options = Annotated[dict[str, Any], BeforeValidator(parse_options)]
Steps = tuple[Annotated[dict[str, Options], BeforeValidator(parse_step)], ...]
Values = Annotated[tuple[Option, ...], BeforeValidator(parse_sequence)]
Count = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
