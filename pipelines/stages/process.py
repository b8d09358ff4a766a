"""What happens to one raw object between its source and its shard: probe, filter, cut, transform."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import blake3

from modalities.base import BadSample, Files, Meta, Modality, Raw

Stage = Mapping[str, Any]  # {"kind": "filter" | "cut" | "transform", ...}, as in the job file
NO_PAYLOAD = ("cls", "txt")  # sidecars that say something about the sample and are not part of its data


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One sample on its way. `files` are its bytes; quality and fingerprint are there once decoded."""

    suffix: str = ""
    spec: Meta | None = None
    files: Files = field(default_factory=dict)
    num_bytes: int
    meta: Meta
    label: str | None = None
    caption: str | None = None
    quality: Mapping[str, float] = field(default_factory=dict)
    fingerprint: int | None = None


@dataclass(frozen=True, kw_only=True)
class Filtered:
    """A sample that a filter left out, and why."""

    suffix: str
    reason: str


def examine(
    raw: Raw,
    sidecars: Files,
    modality: Modality,
    stages: Sequence[Stage],
    *,
    label: str | None = None,
    caption: str | None = None,
    decode: bool = True,
) -> Iterator[Sample | Filtered]:
    """What a raw object will become, without keeping its bytes. Raises BadSample for one that cannot be used.

    Objects that pass unchanged are decoded here, which proves that they open; pieces and transformed samples
    are built here only if a filter has to see them, else when they are packed.
    """
    meta = modality.probe(raw)
    before, cut, after = _split(stages)
    whole = Sample(num_bytes=_size(raw, sidecars), meta=meta, label=label, caption=caption)
    untouched = cut is None and not any(stage["kind"] == "transform" for stage in after)
    if (untouched and (decode or _reads_quality(before + after))) or (
        not untouched and _reads_quality(before)
    ):
        whole = _decoded(whole, {**modality.pack(raw, meta), **sidecars}, modality)
    if reason := _refused(whole, before):
        yield Filtered(suffix="", reason=reason)
        return
    if untouched:
        yield Filtered(suffix="", reason=reason) if (reason := _refused(whole, after)) else whole
        return
    if cut is None:
        pieces = [("", None, whole.num_bytes)]
    else:
        options = cut.get("options", {})
        planned = _named("cut", cut["how"], modality.cuts, modality).plan(raw, meta, **options)
        pieces = [(piece.suffix, piece.spec, piece.num_bytes) for piece in planned]
        if not pieces:
            yield Filtered(suffix="", reason=f"cut {cut['how']} leaves no piece")
    for suffix, spec, num_bytes in pieces:
        if not any(stage["kind"] == "filter" for stage in after):
            yield Sample(
                suffix=suffix, spec=spec, num_bytes=num_bytes, meta=meta, label=label, caption=caption
            )
            continue
        built = build(raw, sidecars, modality, stages, meta=meta, spec=spec, label=label, suffix=suffix)
        if isinstance(built, Filtered):
            yield built
        else:
            yield Sample(**{**vars(built), "files": {}})


def build(
    raw: Raw,
    sidecars: Files,
    modality: Modality,
    stages: Sequence[Stage],
    *,
    meta: Meta,
    spec: Meta | None,
    label: str | None,
    suffix: str = "",
) -> Sample | Filtered:
    """The files of one sample, cut and transformed. `meta` is the raw object's; the result has its own."""
    _, cut, after = _split(stages)
    if cut is None:
        files = {**modality.pack(raw, meta), **{k: v for k, v in sidecars.items() if k not in NO_PAYLOAD}}
    else:
        files = dict(_named("cut", cut["how"], modality.cuts, modality).extract(
            raw, meta, spec, **cut.get("options", {})
        ))  # fmt: skip
    if cut is None and not any(stage["kind"] == "transform" for stage in after):
        return Sample(suffix=suffix, spec=spec, files=files, num_bytes=_bytes(files), meta=meta, label=label)
    for stage in after:
        if stage["kind"] == "transform":
            change = _named("transform", stage["how"], modality.transforms, modality)
            files = dict(modality.encode(change(modality.decode(files), **stage.get("options", {}))))
        elif reason := _refused(_described(files, modality, suffix, spec, label), [stage]):
            return Filtered(suffix=suffix, reason=reason)
    return _described(files, modality, suffix, spec, label)


def _described(files: Files, modality: Modality, suffix: str, spec: Meta | None, label: str | None) -> Sample:
    meta = dict(modality.probe(as_raw(files, modality)))
    if spec is not None:
        meta["piece"] = dict(spec)
    sample = Sample(suffix=suffix, spec=spec, files=files, num_bytes=_bytes(files), meta=meta, label=label)
    return _decoded(sample, files, modality)


def _decoded(sample: Sample, files: Files, modality: Modality) -> Sample:
    arrays = modality.look(files)
    quality = {name: float(value) for name, value in modality.quality(arrays).items()}
    return Sample(**{**vars(sample), "quality": quality, "fingerprint": modality.fingerprint(arrays)})


def as_raw(files: Files, modality: Modality) -> Raw:
    """A sample's files seen as a raw object again: the primary one, and the others beside it."""
    for ext in sorted(files, key=lambda ext: (ext not in modality.patterns, ext)):
        for pattern in modality.patterns:
            if ext == pattern or fnmatch(f"sample.{ext}", pattern):
                exact = ext == pattern
                rest = {(name if exact else f"sample.{name}"): files[name] for name in files if name != ext}
                return Raw(name=ext if exact else f"sample.{ext}", content=files[ext], companions=rest)
    raise BadSample("no-primary", f"none of {sorted(files)} is a {modality.name} file {modality.patterns}")


def _split(stages: Sequence[Stage]) -> tuple[list[Stage], Stage | None, list[Stage]]:
    """Filters that come first, the cut, and everything behind it. Without a cut all stages come behind."""
    cuts = [i for i, stage in enumerate(stages) if stage["kind"] == "cut"]
    if not cuts:
        return [], None, list(stages)
    if len(cuts) > 1 or any(stage["kind"] != "filter" for stage in stages[: cuts[0]]):
        raise ValueError("stages: want at most one cut, and only filters before it")
    return list(stages[: cuts[0]]), stages[cuts[0]], list(stages[cuts[0] + 1 :])


def _named(kind: str, how: str, known: Mapping[str, Any], modality: Modality) -> Any:
    if how not in known:
        near = get_close_matches(how, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {sorted(known)}"
        raise LookupError(f"{modality.name} has no {kind} {how!r}; {hint}")
    return known[how]


def check_stages(stages: Sequence[Stage], modality: Modality) -> None:
    """Raise what is wrong with the list before any work is done."""
    _split(stages)
    for stage in stages:
        if stage["kind"] != "filter":
            known = modality.cuts if stage["kind"] == "cut" else modality.transforms
            found = _named(stage["kind"], stage["how"], known, modality)
            taken = inspect.signature(found.plan if stage["kind"] == "cut" else found).parameters.values()
            options = sorted(p.name for p in taken if p.kind is p.KEYWORD_ONLY)
            for option in stage.get("options", {}):
                if option not in options:
                    raise LookupError(
                        f"{stage['kind']} {stage['how']} has no option {option!r}; it has {options}"
                    )


def _reads_quality(stages: Sequence[Stage]) -> bool:
    return any(stage["kind"] == "filter" and stage["field"].startswith("quality.") for stage in stages)


def _refused(sample: Sample, stages: Sequence[Stage]) -> str:
    """The first filter that says no, in words; empty when all agree."""
    for stage in stages:
        if stage["kind"] != "filter":
            continue
        name, value = stage["field"], _field(sample, stage["field"])
        for key, refuses in (
            ("min", lambda limit, value=value: value is None or value < limit),
            ("max", lambda limit, value=value: value is None or value > limit),
            ("one_of", lambda limit, value=value: value not in limit),
            ("not_one_of", lambda limit, value=value: value in limit),
        ):
            if stage.get(key) is not None and refuses(stage[key]):
                return f"{name} is {value!r}, want {key} {stage[key]!r}"
    return ""


def _field(sample: Sample, path: str) -> Any:
    value: Any = {
        "meta": sample.meta, "quality": sample.quality, "label": sample.label,
        "caption": sample.caption, "num_bytes": sample.num_bytes
    }  # fmt: skip
    for part in path.split("."):
        if not isinstance(value, Mapping) or part not in value:
            known = sorted(value) if isinstance(value, Mapping) else []
            raise BadSample("no-such-field", f"filter on {path!r}: no {part!r}; there are {known}")
        value = value[part]
    return value


def _size(raw: Raw, sidecars: Files) -> int:
    companions = (raw.companion(name).size for name in raw.companions)
    return raw.size + sum(companions) + _bytes(sidecars)


def _bytes(files: Files) -> int:
    return sum(len(content) for content in files.values())


def content_digest(raw: Raw, sidecars: Files) -> str:
    """BLAKE3 over the object, its companions and sidecars, with their names but not its own."""
    hasher = blake3.blake3()
    parts = {"": raw.content, **{f"beside/{name}": raw.companions[name] for name in sorted(raw.companions)}}
    for name, content in {**parts, **{f"sidecar/{ext}": sidecars[ext] for ext in sorted(sidecars)}}.items():
        part = blake3.blake3()
        if isinstance(content, Path):
            part.update_mmap(content)
        else:
            part.update(content)
        hasher.update(f"{name}\0{part.hexdigest()}\n".encode())
    text: str = hasher.hexdigest()
    return text
