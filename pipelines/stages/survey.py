"""Look at listed objects one by one and say what each will become. Whatever one does costs only itself."""

import traceback
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from modalities.base import BadSample, Modality
from modalities.libraries import MissingLibrary
from pipelines.answers import STORE_FAILED
from pipelines.jsontext import dumps
from pipelines.sources import Entry, open_entry
from pipelines.stages import process
from pipelines.stages.facts import class_name, scene
from pipelines.stages.process import Compare, Filtered, Found, Look, Stage, content_digest
from pipelines.stages.sandbox import Sandbox, enabled, of_this_thread

HEAD_BYTES = 4096  # kept of what is quarantined
BATCH_ENTRIES, BATCH_BYTES = 16, 4 * 2**20  # open at a time: waiting for the sandbox once for all of them

Known = dict[str, Any]  # of an opened entry: group, content, and head where it was opened and then refused
Opened = tuple[Entry, Known, Look | BadSample]


def survey_entries(
    entries: Iterable[Entry],
    modality: Modality,
    stages: Sequence[Stage],
    *,
    decode: bool = True,
    compare: Compare = "",
    anonymous: bool = False,
    sandbox: bool | Sandbox = True,
) -> list[dict[str, Any]]:
    """Rows as in pipelines.shards.plan.SURVEY, at least one an entry.

    `sandbox`: decode in a process apart, that of this thread or the one given, so that no sample can take
    this process with it. False, or RAYLOOM_SANDBOX=0, decodes here. SandboxError: it does not start.
    MissingLibrary: what the modality needs does not load. Refused, Unavailable: as open_entry says.
    """
    rows: list[dict[str, Any]] = []
    given: dict[str, Any] = {"decode": decode, "compare": compare, "anonymous": anonymous}
    for entry, known, look, outcome in examined(entries, modality, stages, **given, sandbox=sandbox):
        common = {"name": entry.name, "entry": entry.to_json(), "suffix": "", "num_bytes": 0, **known}
        try:
            rows += _rows(common, look, outcome)
        except Exception:  # metadata that is no JSON
            rows += _rows(common, look, _crashed())
    return rows


def examined(
    entries: Iterable[Entry],
    modality: Modality,
    stages: Sequence[Stage],
    *,
    decode: bool = True,
    compare: Compare = "",
    anonymous: bool = False,
    as_listed: bool = False,
    sandbox: bool | Sandbox = True,
) -> Iterator[tuple[Entry, Known, Look | BadSample, Found | BadSample]]:
    """Each entry, in order, with what is known of it, what was opened, and what becomes of it.

    `as_listed`: a local file that was written to since it was listed is refused, as open_entry says.
    What is opened is held until the caller has seen it: at most three times BATCH_ENTRIES entries, or
    BATCH_BYTES and a file more. The caller may work while the sandbox does: it has a batch to go on with.
    """
    given: dict[str, Any] = {"decode": decode, "compare": compare}
    apart = of_this_thread() if sandbox is True and enabled() else sandbox
    opened = (_open(entry, anonymous, as_listed) for entry in entries)
    batches = _batches(opened)
    if not isinstance(apart, Sandbox):
        for entry, known, look in opened:
            if isinstance(look, Look):
                yield entry, known, look, process.examined(look, modality, stages, **given)
            else:
                yield entry, known, look, look
        return
    held: deque[list[Opened]] = deque()

    def looks() -> Iterator[list[Look]]:
        for batch in batches:
            held.append(batch)
            yield [look for _, _, look in batch if isinstance(look, Look)]

    for outcomes in apart.stream(looks(), modality, stages, **given):
        told = iter(outcomes)
        for entry, known, look in held.popleft():
            yield entry, known, look, look if isinstance(look, BadSample) else next(told)


def _batches(opened: Iterable[Opened]) -> Iterator[list[Opened]]:
    batch: list[Opened] = []
    size = 0
    for entry, known, look in opened:
        batch.append((entry, known, look))
        size += look.num_bytes if isinstance(look, Look) else 0
        if len(batch) == BATCH_ENTRIES or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _open(entry: Entry, anonymous: bool, as_listed: bool) -> Opened:
    known: Known = {"group": entry.group}
    raw = None
    try:
        raw, sidecars = open_entry(entry, anonymous=anonymous, as_listed=as_listed)
        known["content"] = content_digest(raw, sidecars)
        label, caption = entry.label, entry.caption
        if not sidecars:
            return entry, known, Look(raw=raw, sidecars=sidecars, label=label, caption=caption)
        known["group"] = scene(sidecars) or entry.group
        if "cls" in sidecars:
            label = class_name(sidecars) or _text(sidecars["cls"], "cls")
        if caption is None and "txt" in sidecars:
            caption = _text(sidecars["txt"], "txt")
        return entry, known, Look(raw=raw, sidecars=sidecars, label=label, caption=caption)
    except BadSample as bad:
        problem = bad
    except (MissingLibrary, *STORE_FAILED):  # the next one would fare no better
        raise
    except Exception:  # a defect of ours must not cost the job
        problem = _crashed()
    if raw is not None:
        known["head"] = raw.head(HEAD_BYTES)
    return entry, known, problem


def _crashed() -> BadSample:
    return BadSample("crashed", traceback.format_exc(limit=-3))


def head_of(known: Known, look: Look | BadSample) -> bytes | None:
    """The first HEAD_BYTES of an entry, or None when it could not be opened."""
    found: bytes | None = look.raw.head(HEAD_BYTES) if isinstance(look, Look) else known.get("head")
    return found


def _rows(common: dict[str, Any], look: Look | BadSample, outcome: Found | BadSample) -> list[dict[str, Any]]:
    if isinstance(outcome, BadSample):
        told: dict[str, Any] = {"reason": outcome.reason, "detail": outcome.detail}
        return [{**common, "status": "quarantined", "head": head_of(common, look), **told}]
    rows = []
    for found in outcome:
        if isinstance(found, Filtered):
            told = {"status": "filtered", "suffix": found.suffix, "reason": found.reason}
        else:
            told = {
                "status": "ok", "suffix": found.suffix, "num_bytes": found.num_bytes,
                "spec": None if found.spec is None else dumps(found.spec), "meta": dumps(found.meta),
                "label": found.label, "caption": found.caption, "quality": sorted(found.quality.items()),
                "fingerprint": found.fingerprint, "arrays": found.arrays,
            }  # fmt: skip
        rows.append({**common, **told})
    return rows


def _text(content: bytes, ext: str) -> str:
    try:
        return content.decode().strip()
    except UnicodeDecodeError as e:
        raise BadSample("bad-sidecar", f"the .{ext} file beside it is not UTF-8 text: {e}") from e
