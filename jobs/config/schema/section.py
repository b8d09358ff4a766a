"""What every mapping of a job file keeps to, and what every job can do."""

import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from jobs.config.fields import INCIDENTAL

SplitName = Literal["train", "val", "test"]


class Section(BaseModel):
    """A mapping in a job file: unknown fields are mistakes, types are not guessed, nothing changes later."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class JobSection(Section):
    """What every job can do."""

    kind: str

    def resolved(self) -> dict[str, Any]:
        """Every field with its value, as JSON has it."""
        return self.model_dump(mode="json")

    def digest(self) -> str:
        """BLAKE3 (hex) of the canonical JSON of every field that changes the result.

        Left out are the fields marked INCIDENTAL: places (what lies there has its own digests), workers,
        quarantine budgets, checkpoint intervals. `config explain` says of each field which it is.
        """
        import blake3

        text = json.dumps(_essential(self), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return blake3.blake3(text.encode()).hexdigest()


def _essential(section: BaseModel) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, info in type(section).model_fields.items():
        if INCIDENTAL not in info.metadata:
            found[name] = _plain(getattr(section, name))
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return _essential(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value
