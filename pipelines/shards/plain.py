"""Plain objects: the listing says all that a plan asks, so that they are opened once, by who packs them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipelines.shards.marks import SURVEY, marked
from pipelines.sources import Entry


class Listed:
    """Plain entries, and each as JSON, which is all that goes to another process."""

    def __init__(self, texts: list[str], entries: list[Entry] | None = None) -> None:
        self.texts, self.entries = texts, entries or [Entry.from_json(text) for text in texts]

    def __reduce__(self) -> tuple[Any, ...]:
        return Listed, (self.texts,)


@dataclass(frozen=True)
class Apart:
    """Tells plain entries from others, and what they are. It depends on entry and settings alone."""

    settings: Mapping[str, Any]
    patterns: Sequence[str]

    def __call__(self, entries: list[Entry]) -> tuple[Listed, list[Entry]]:
        """Plain entries, and those that somebody has to look at."""
        plain = [entry for entry in entries if is_plain(entry)]
        others = [] if len(plain) == len(entries) else [entry for entry in entries if not is_plain(entry)]
        return Listed([entry.to_json() for entry in plain], plain), others

    def rows(self, listed: Listed) -> pa.Table:
        """Plain entries as MARKED, without what only their bytes say."""
        return marked(_rows(listed), settings=self.settings, patterns=self.patterns, alone=True)


def apart(settings: Mapping[str, Any], *, patterns: Sequence[str]) -> Apart | None:
    """For a first snapshot with these settings; None where no entry stands for itself."""
    split = settings["split"]
    alone = split["by"] != "cluster" and not split.get("stratify", False)
    if settings["stages"] or settings["dedup"] != "none" or not alone:
        return None  # other samples decide what becomes of one
    return Apart(settings, patterns)


def is_plain(entry: Entry) -> bool:
    """Sidecars may say label, caption and scene; what is made, or lies on a web server, has no size yet."""
    if entry.refusal is not None:
        return True
    content = entry.content
    if entry.sidecars or content.size < 0 or content.uri.startswith("synth:"):
        return False
    return not entry.companions or all(part.size >= 0 for part in entry.companions.values())


def _rows(listed: Listed) -> pa.Table:
    entries = listed.entries
    count, refusals = len(entries), [entry.refusal for entry in entries]
    columns: dict[str, list[Any]] = {
        "status": ["quarantined" if refusal else "ok" for refusal in refusals],
        "name": [entry.name for entry in entries],
        "entry": listed.texts,
        "suffix": [""] * count,
        "num_bytes": [0 if entry.refusal else entry.num_bytes for entry in entries],
        "label": [entry.label for entry in entries],
        "caption": [entry.caption for entry in entries],
        "group": [entry.group for entry in entries],
        "reason": [refusal and refusal[0] for refusal in refusals],
        "detail": [refusal and refusal[1] for refusal in refusals],
    }
    return pa.table(
        [
            pa.array(columns[field.name], field.type)
            if field.name in columns
            else pa.nulls(count, field.type)
            for field in SURVEY
        ],
        schema=SURVEY,
    )
