"""Look at listed objects one by one and say what each will become. Whatever one does costs only itself."""

import traceback
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from modalities.base import BadSample, Modality
from pipelines.jsontext import dumps
from pipelines.sources import Entry, open_entry
from pipelines.stages.process import Filtered, Sample, Stage, content_digest, examine
from pipelines.stages.sandbox import Sandbox, SandboxError, enabled, of_this_thread

HEAD_BYTES = 4096  # kept of what is quarantined


def survey_entries(
    entries: Iterable[Entry],
    modality: Modality,
    stages: Sequence[Stage],
    *,
    decode: bool = True,
    anonymous: bool = False,
    sandbox: bool | Sandbox = True,
) -> list[dict[str, Any]]:
    """Rows as in pipelines.shards.plan.SURVEY, at least one an entry.

    `sandbox`: decode in a process apart, that of this thread or the one given, so that no sample can take
    this process with it. False, or RAYLOOM_SANDBOX=0, decodes here. SandboxError: it does not start.
    """
    apart = of_this_thread() if sandbox is True and enabled() else sandbox
    look = apart.examine if isinstance(apart, Sandbox) else examine
    return [row for entry in entries for row in _survey(entry, modality, stages, decode, anonymous, look)]


def _survey(
    entry: Entry,
    modality: Modality,
    stages: Sequence[Stage],
    decode: bool,
    anonymous: bool,
    look: Callable[..., Iterable[Sample | Filtered]],
) -> list[dict[str, Any]]:
    common: dict[str, Any] = {
        "name": entry.name, "entry": entry.to_json(), "group": entry.group, "suffix": "", "num_bytes": 0
    }  # fmt: skip
    try:
        raw, sidecars = open_entry(entry, anonymous=anonymous)
        common["head"] = raw.head(HEAD_BYTES)
        common["content"] = content_digest(raw, sidecars)
        label, caption = entry.label, entry.caption
        if "cls" in sidecars:
            label = _text(sidecars["cls"], "cls")
        if caption is None and "txt" in sidecars:
            caption = _text(sidecars["txt"], "txt")
        rows = []
        for found in look(raw, sidecars, modality, stages, label=label, decode=decode):
            if isinstance(found, Filtered):
                rows.append(
                    {
                        **common,
                        "status": "filtered",
                        "suffix": found.suffix,
                        "reason": found.reason,
                        "head": None,
                    }
                )
                continue
            rows.append(
                {
                    **common, "status": "ok", "suffix": found.suffix, "num_bytes": found.num_bytes,
                    "spec": None if found.spec is None else dumps(found.spec), "meta": dumps(found.meta),
                    "label": label, "caption": caption, "quality": sorted(found.quality.items()),
                    "fingerprint": found.fingerprint, "head": None,
                }
            )  # fmt: skip
        return rows
    except BadSample as bad:
        return [{**common, "status": "quarantined", "reason": bad.reason, "detail": bad.detail}]
    except SandboxError:
        raise
    except Exception:  # a defect of ours or of a decoder must not cost the job
        detail = traceback.format_exc(limit=-3)
        return [{**common, "status": "quarantined", "reason": "crashed", "detail": detail}]


def _text(content: bytes, ext: str) -> str:
    try:
        return content.decode().strip()
    except UnicodeDecodeError as e:
        raise BadSample("bad-sidecar", f"the .{ext} file beside it is not UTF-8 text: {e}") from e
