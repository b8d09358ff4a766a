"""What `rayloom config` prints: the schema, what a field means, and a job with the origin of every value."""

import json
import re
from collections.abc import Iterator
from typing import Annotated, Any, Final

from pydantic import Field, TypeAdapter

from jobs.config.document import Document, parse
from jobs.config.fieldtree import lookup, tree
from jobs.config.mistakes import ConfigError, Path, suggest
from jobs.config.schema import JOBS, Job

COLUMN: Final = 40  # where the origins stand, if the values leave room


def schema_text(kind: str | None) -> str:
    """JSON Schema of one kind of job, or of any, for editors (`# yaml-language-server: $schema=...`)."""
    if kind is not None and kind not in JOBS:
        raise LookupError(f"no kind of job {kind!r}{suggest(kind, JOBS)}; there are {', '.join(JOBS)}")
    if kind is not None:
        schema = JOBS[kind].model_json_schema()
    else:
        adapter: TypeAdapter[Any] = TypeAdapter(Annotated[Job, Field(discriminator="kind")])
        schema = adapter.json_schema()
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema, indent=2)


def explain_text(name: str | None) -> str:
    """What the fields of that name mean, in every kind of job that has one; with None, a line a field."""
    if name is None:
        return "\n".join(
            f"{job:<8} {field.path:<24} {field.info.description or ''}".rstrip()
            for job in JOBS
            for field in tree(job)
        )
    return "\n\n".join(field.text() for field in lookup(name))


def resolved_text(job: Job, document: Document) -> str:
    """A job file that says everything, with the origin of each value behind it."""
    head = f"# digest {job.digest()}"
    return "\n".join([head, *_lines(job.resolved(), (), document, "")]) + "\n"


def _lines(value: Any, path: Path, document: Document, indent: str) -> Iterator[str]:
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, child in pairs:
        lead = indent + (f"{_scalar(key)}:" if isinstance(value, dict) else "-")
        here = (*path, key)
        if isinstance(child, dict | list) and child and not _flat(child):
            yield lead
            yield from _lines(child, here, document, indent + "  ")
        else:
            origin = document.values.get(here)
            yield f"{f'{lead} {_inline(child)}':<{COLUMN}} # {origin or 'default'}"


def _flat(value: Any) -> bool:
    return isinstance(value, list) and not any(isinstance(item, dict | list) for item in value)


def _inline(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_inline(item) for item in value)}]"
    if isinstance(value, dict):
        return "{}"
    return _scalar(value)


def _scalar(value: Any) -> str:
    """One scalar in YAML: plain if it comes back as it is, else in double quotes."""
    if not isinstance(value, str):
        return json.dumps(value)
    if re.fullmatch(r"[\w./-]+(:[\w./-]+)*", value, re.ASCII) and _read(value) == value:
        return value
    quoted = json.dumps(value, ensure_ascii=False)
    return re.sub(r"[^ -~]", lambda match: f"\\U{ord(match[0]):08x}", quoted)


def _read(text: str) -> Any:
    try:
        return parse(text, "value").value
    except ConfigError:
        return None
