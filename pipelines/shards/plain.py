"""Plain objects: the listing says all that a plan asks, so that they are opened once, by who packs them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipelines.shards.marks import SURVEY, marked
from pipelines.sources import Entry, Listing, Names
from pipelines.sources.names import looked_at


class Listed:
    """Plain entries; who describes them looks at those that are only named, perhaps in another process."""

    def __init__(self, found: Sequence[Listing]) -> None:
        self.found = found

    def __reduce__(self) -> tuple[Any, ...]:
        return _received, ([one if isinstance(one, Names) else one.to_json() for one in self.found],)


def _received(found: Sequence[Names | str]) -> Listed:
    return Listed([Entry.from_json(one) if isinstance(one, str) else one for one in found])


@dataclass(frozen=True)
class Apart:
    """Tells plain entries from others, and what they are. It depends on entry and settings alone."""

    settings: Mapping[str, Any]
    patterns: Sequence[str]

    def __call__(self, found: Sequence[Listing]) -> tuple[Listed, list[Entry]]:
        """Plain entries, and those that somebody has to look at."""
        plain: list[Listing] = []
        others: list[Entry] = []
        for one in found:
            if isinstance(one, Names) or is_plain(one):
                plain.append(one)
            else:
                others.append(one)
        return Listed(plain), others

    def rows(self, listed: Listed) -> pa.Table:
        """Plain entries as MARKED, without what only their bytes say."""
        entries = list(looked_at(listed.found))
        return marked(_rows(entries), settings=self.settings, patterns=self.patterns, alone=True)


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


def _rows(entries: list[Entry]) -> pa.Table:
    count, refusals = len(entries), [entry.refusal for entry in entries]
    columns: dict[str, list[Any]] = {
        "status": ["quarantined" if refusal else "ok" for refusal in refusals],
        "name": [entry.name for entry in entries],
        "entry": [entry.to_json() for entry in entries],
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
