"""Plain objects: the listing says all that a plan asks, so that they are opened once, by who packs them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from pipelines.shards.marks import SURVEY, marked
from pipelines.sources import Entry

Apart = Callable[[list[Entry]], tuple[pa.Table | None, list[Entry]]]


def apart(settings: Mapping[str, Any], *, patterns: Sequence[str]) -> Apart | None:
    """What tells plain entries from others, for a first snapshot with these settings; None: there are none.

    The function gives the rows of plain entries as MARKED, without what only the bytes say (content, meta,
    quality), and the entries that somebody has to look at. It depends on entry and settings alone.
    """
    split = settings["split"]
    alone = split["by"] != "cluster" and not split.get("stratify", False)
    if settings["stages"] or settings["dedup"] != "none" or not alone:
        return None  # other samples decide what becomes of one

    def tell(entries: list[Entry]) -> tuple[pa.Table | None, list[Entry]]:
        plain = [entry for entry in entries if _is_plain(entry)]
        if not plain:
            return None, entries
        table = marked(_rows(plain), settings=settings, patterns=patterns, alone=True)
        return table, [] if len(plain) == len(entries) else [e for e in entries if not _is_plain(e)]

    return tell


def _is_plain(entry: Entry) -> bool:
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
