"""A job file and its overrides, read and checked."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from jobs.config.document import MAX_BYTES, Document, parse
from jobs.config.mistakes import ConfigError, Mistake, Place, suggest
from jobs.config.names import check_names
from jobs.config.overrides import apply
from jobs.config.schema import Job
from jobs.config.validate import validate

NAMES: Final = (".yaml", ".yml", ".json")


def load_job(path: str | Path, overrides: Sequence[str] = ()) -> Job:
    """The job a file describes, with `key.path=value` laid over it; ConfigError names every mistake."""
    return load_with_places(path, overrides)[0]


def load_with_places(path: str | Path, overrides: Sequence[str] = ()) -> tuple[Job, Document]:
    """The job, and the document that knows where each value was written."""
    document = parse(_read(Path(path)), str(path))
    mistakes: tuple[Mistake, ...] = ()
    if isinstance(document.value, dict):
        try:
            apply(document, overrides)
        except ConfigError as e:
            mistakes = e.mistakes
    job = validate(document, mistakes)
    if unknown := tuple(check_names(job, document)):
        raise ConfigError(unknown)
    return job, document


def _read(path: Path) -> str:
    def refuse(cause: str, line: int = 1) -> ConfigError:
        return ConfigError([Mistake(Place(line, 1, str(path)), "", cause)])

    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        there = (
            [near.name for near in path.parent.glob("*") if near.suffix in NAMES]
            if path.parent.is_dir()
            else []
        )
        raise refuse(f"no such file{suggest(path.name, there)}") from None
    except OSError as e:
        raise refuse(f"cannot be read: {e.strerror}") from None
    if len(content) > MAX_BYTES:
        raise refuse(f"larger than {MAX_BYTES:,} bytes; a job file says what to do, it does not hold data")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        line = content.count(b"\n", 0, e.start) + 1
        raise refuse(f"not UTF-8: byte 0x{content[e.start]:02x}", line) from None
