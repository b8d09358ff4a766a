"""What the sandbox says it found: told on its side, believed on ours only after every value was checked."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from modalities.base import BadSample
from pipelines.stages._frames import Garbled
from pipelines.stages.process import Filtered, Sample

DETAIL_CHARS = 4000
_REASON = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_EXTENSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_SUFFIX = re.compile(r"[A-Za-z0-9_-]{0,150}")


def told(found: Sequence[Sample | Filtered]) -> list[dict[str, Any]]:
    """As JSON. Metadata that is the same object as that of the sample before is not repeated."""
    items, last = [], None
    for one in found:
        if isinstance(one, Filtered):
            items.append({"kind": "filtered", **one._asdict()})
            continue
        item = {"kind": "sample", **one._asdict(), "files": list(one.files)}
        del item["label"], item["caption"]  # the worker gave them
        if one.meta is last:
            del item["meta"]
        last = one.meta
        items.append(item)
    return items


def checked_answer(
    items: Any, files: Sequence[bytes], label: str | None, caption: str | None
) -> list[Sample | Filtered]:
    """Invert `told`; Garbled for whatever it would not have said."""
    _want(isinstance(items, list), "a list of samples", items)
    found: list[Sample | Filtered] = []
    contents = iter(files)
    meta: Any = None
    for item in items:
        _want(isinstance(item, dict), "an object for each sample", item)
        suffix = item.get("suffix")
        _want(isinstance(suffix, str) and _SUFFIX.fullmatch(suffix), "a suffix", suffix)
        if item.get("kind") == "filtered":
            _want(isinstance(item.get("reason"), str), "a reason", item.get("reason"))
            found.append(Filtered(suffix=suffix, reason=cleaned(item["reason"])))
            continue
        meta = item.get("meta", meta)
        found.append(_sample(item, suffix, meta, contents, label, caption))
    _want(next(contents, None) is None, "a name for each file", "more files")
    return found


def _sample(
    item: dict[str, Any],
    suffix: str,
    meta: Any,
    contents: Iterator[bytes],
    label: str | None,
    caption: str | None,
) -> Sample:
    spec: Any = item.get("spec")
    num_bytes: Any = item.get("num_bytes")
    fingerprint: Any = item.get("fingerprint")
    quality: Any = item.get("quality")
    arrays: Any = item.get("arrays")
    names: Any = item.get("files")
    _want(isinstance(meta, dict), "metadata", meta)
    _want(spec is None or isinstance(spec, dict), "a piece's spec", spec)
    _want(type(num_bytes) is int and 0 <= num_bytes < 2**62, "a number of bytes", num_bytes)
    _want(
        fingerprint is None or (type(fingerprint) is int and 0 <= fingerprint < 2**64),
        "a fingerprint of 64 bits",
        fingerprint,
    )
    _want(arrays is None or (isinstance(arrays, str) and _DIGEST.fullmatch(arrays)), "a digest", arrays)
    _want(
        isinstance(quality, dict) and {*map(type, quality.values())} <= {float},
        "quality as named numbers",
        quality,
    )
    _want(
        isinstance(names, list)
        and all(isinstance(name, str) and _EXTENSION.fullmatch(name) for name in names),
        "names of files",
        names,
    )
    files = dict(zip(names, contents, strict=False))
    _want(len(files) == len(names), "a file for each name, once", names)
    return Sample(
        suffix=suffix, spec=spec, files=files, num_bytes=num_bytes, meta=meta, label=label, caption=caption,
        quality=quality, fingerprint=fingerprint, arrays=arrays,
    )  # fmt: skip


def checked_refusal(pair: Any) -> BadSample:
    """[reason, detail]; Garbled for anything else."""
    _want(isinstance(pair, list) and len(pair) == 2, "a reason and a detail", pair)
    reason, detail = pair
    _want(isinstance(reason, str) and _REASON.fullmatch(reason), "a reason code", reason)
    _want(isinstance(detail, str), "a detail in words", detail)
    return BadSample(reason, cleaned(detail))


def cleaned(text: str) -> str:
    """Text that can be stored: capped, its last part kept, and UTF-8."""
    return text[-DETAIL_CHARS:].encode(errors="replace").decode()


def _want(holds: Any, what: str, came: Any) -> None:
    if not holds:
        raise Garbled(f"want {what}, got {came!r:.200}")
