"""What happens to one raw object between its source and its shard: probe, filter, cut, transform."""

import inspect
import traceback
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import blake3

from modalities.base import Arrays, BadSample, Files, Meta, Modality, Raw
from modalities.libraries import MissingLibrary
from pipelines.stages import sidecars as beside

WHERE = ("clip.json", "tile.json")  # what a cut says of a piece: where in its object it lay
Compare = Literal["", "prints", "arrays"]
_NOTHING: Final[Mapping[str, Any]] = {}
Stage = Mapping[str, Any]  # {"kind": "filter" | "cut" | "transform", ...}, as in the job file


class Look(
    NamedTuple
):  # this and the next: made for every sample, and a tuple is made in a third of the time
    """One raw object, opened, with what rides along."""

    raw: Raw
    sidecars: Files
    label: str | None = None
    caption: str | None = None

    @property
    def num_bytes(self) -> int:
        """What is held in memory: all but parts that are paths."""
        if not (self.raw.companions or self.sidecars):
            return len(self.raw.content) if isinstance(self.raw.content, bytes) else 0
        contents = (self.raw.content, *self.raw.companions.values(), *self.sidecars.values())
        return sum(len(content) for content in contents if isinstance(content, bytes))


class Sample(NamedTuple):
    """One sample on its way. `files` are its bytes; quality and fingerprint are there once decoded."""

    num_bytes: int
    meta: Meta
    suffix: str = ""
    spec: Meta | None = None
    files: Files = _NOTHING
    label: str | None = None
    caption: str | None = None
    quality: Mapping[str, float] = _NOTHING
    fingerprint: int | None = None
    arrays: str | None = None  # BLAKE3 of what it decodes to, if that was asked for


class Filtered(NamedTuple):
    """A sample that a filter left out, and why."""

    suffix: str
    reason: str


Found = list[Sample | Filtered]


def examined(
    look: Look, modality: Modality, stages: Sequence[Stage], *, decode: bool = True, compare: Compare = ""
) -> Found | BadSample:
    """What `examine` says, or why not: all that is raised but MissingLibrary costs this object alone."""
    try:
        if not (stages or decode or compare):  # the header says all that is asked for
            size, meta = _size(look.raw, look.sidecars), modality.probe(look.raw)
            return [Sample(num_bytes=size, meta=meta, label=look.label, caption=look.caption)]
        return list(examine(look, modality, stages, decode=decode, compare=compare))
    except BadSample as bad:
        return bad
    except MissingLibrary:
        raise  # so would the next object
    except Exception:  # a defect of ours or of a decoder
        return BadSample("crashed", traceback.format_exc(limit=-3))


def examine(
    look: Look, modality: Modality, stages: Sequence[Stage], *, decode: bool = True, compare: Compare = ""
) -> Iterator[Sample | Filtered]:
    """What a raw object will become, without keeping its bytes. Raises BadSample for one that cannot be used.

    Objects that pass unchanged are decoded here, which proves that they open; pieces and transformed samples
    are built here only if a filter has to see them, or they will be compared, else when they are packed.
    `compare`: every sample gets its fingerprint, and with "arrays" the digest of what it decodes to.
    """
    raw, label, caption = look.raw, look.label, look.caption
    meta = modality.probe(raw)
    before, cut, after = _split(stages)
    untouched, judged, arrays = passes(stages), _NOT_JUDGED, None
    if (untouched and (decode or compare or _reads_quality(before + after))) or (
        not untouched and _reads_quality(before)
    ):
        files = {**look.sidecars, **modality.pack(raw, meta)}
        judged = _judged(files, meta, modality)
        if untouched and compare == "arrays":
            arrays = arrays_digest(modality.decode(files))
    whole = Sample(
        num_bytes=_size(raw, look.sidecars), meta=meta, label=label, caption=caption, quality=judged[0],
        fingerprint=judged[1], arrays=arrays,
    )  # fmt: skip
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
        if not (compare or any(stage["kind"] == "filter" for stage in after)):
            yield Sample(
                suffix=suffix, spec=spec, num_bytes=num_bytes, meta=meta, label=label, caption=caption
            )
            continue
        built = build(look, modality, stages, meta=meta, spec=spec, suffix=suffix)
        if isinstance(built, Filtered):
            yield built
        else:
            arrays = arrays_digest(modality.decode(built.files)) if compare == "arrays" else None
            # Whoever builds it again starts from the object, and needs the facts of that.
            yield built._replace(files={}, arrays=arrays, meta=meta)


def build(
    look: Look,
    modality: Modality,
    stages: Sequence[Stage],
    *,
    meta: Meta,
    spec: Meta | None = None,
    suffix: str = "",
) -> Sample | Filtered:
    """The files of one sample, cut and transformed, with what rides along (pipelines.stages.sidecars).

    `meta` is the raw object's; the result has its own. BadSample "name-clash" for two files of one name.
    """
    if passes(stages):
        files = passed(look, modality, meta)
        return Sample(
            suffix=suffix, spec=spec, files=files, num_bytes=_bytes(files), meta=meta, label=look.label,
            caption=look.caption,
        )  # fmt: skip
    _, cut, after = _split(stages)
    this = Sample(suffix=suffix, spec=spec, num_bytes=0, meta=meta, label=look.label, caption=look.caption)
    riders = beside.sort(look.sidecars, modality)
    if cut is None:
        files = beside.joined(modality.pack(look.raw, meta), riders.mask)
    else:
        extract = _named("cut", cut["how"], modality.cuts, modality).extract
        files = extract(beside.masked(look.raw, riders.mask), meta, spec, **cut.get("options", {}))
    for stage in after:
        if stage["kind"] == "transform":
            files = _transformed(files, stage, modality)
        elif reason := _refused(_described(this, files, modality), [stage]):
            return Filtered(suffix=suffix, reason=reason)
    sample = _described(this, files, modality)
    files = {**riders.words, **sample.files}
    left = sorted({*riders.left, *(riders.words.keys() & sample.files.keys())})
    facts = {**sample.meta, "left_behind": left} if left else sample.meta
    return sample._replace(files=files, num_bytes=_bytes(files), meta=facts)


def passed(look: Look, modality: Modality, meta: Meta) -> Files:
    """The files of an object that passes as it is, and what rides along."""
    packed = modality.pack(look.raw, meta)
    return beside.joined(packed, beside.riders(look.sidecars)) if look.sidecars else packed


def _transformed(files: Files, stage: Stage, modality: Modality) -> Files:
    """Arrays changed and encoded anew. What a cut said of the piece in words stays beside them."""
    change = _named("transform", stage["how"], modality.transforms, modality)
    encoded = modality.encode(change(modality.decode(files), **stage.get("options", {})))
    return {**{ext: data for ext, data in files.items() if ext in WHERE}, **encoded}


def _described(sample: Sample, files: Files, modality: Modality) -> Sample:
    meta = dict(modality.probe(as_raw(files, modality)))
    if sample.spec is not None:
        meta["piece"] = dict(sample.spec)
    numbers, fingerprint = _judged(files, meta, modality)
    return sample._replace(
        files=files, num_bytes=_bytes(files), meta=meta, quality=numbers, fingerprint=fingerprint
    )


def passes(stages: Sequence[Stage]) -> bool:
    """Whether bytes in are bytes out."""
    return all(stage["kind"] == "filter" for stage in stages)


def decodes(stages: Sequence[Stage], *, decode: bool, compare: Compare = "") -> bool:
    """Whether `examine` calls more than the probe, which is plain Python that reads a header."""
    before, cut, after = _split(stages)
    if passes(stages):
        return decode or bool(compare) or _reads_quality(before + after)
    return cut is not None or bool(compare) or any(stage["kind"] == "filter" for stage in after)


Judged = tuple[Mapping[str, float], int | None]  # quality and fingerprint
_NOT_JUDGED: Judged = ({}, None)


def _judged(files: Files, meta: Meta, modality: Modality) -> Judged:
    numbers, fingerprint = modality.measured(files, meta)
    return {name: float(value) for name, value in numbers.items()}, fingerprint


def arrays_digest(arrays: Arrays) -> str:
    """BLAKE3 of every field: name, type, shape and values."""
    hasher = blake3.blake3()
    for name in sorted(arrays):
        array = arrays[name]
        hasher.update(f"{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        hasher.update(array.tobytes())
    text: str = hasher.hexdigest()
    return text


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
    if not (raw.companions or sidecars):
        return raw.size
    companions = (raw.companion(name).size for name in raw.companions)
    return raw.size + sum(companions) + _bytes(sidecars)


def _bytes(files: Files) -> int:
    return sum(len(content) for content in files.values())


def content_digest(raw: Raw, sidecars: Files) -> str:
    """BLAKE3 over the object, its companions and sidecars, with their names but not its own."""
    if not (raw.companions or sidecars or isinstance(raw.content, Path)):
        alone = blake3.blake3(raw.content).hexdigest()
        text: str = blake3.blake3(f"\0{alone}\n".encode()).hexdigest()
        return text
    hasher = blake3.blake3()
    parts = {"": raw.content, **{f"beside/{name}": raw.companions[name] for name in sorted(raw.companions)}}
    for name, content in {**parts, **{f"sidecar/{ext}": sidecars[ext] for ext in sorted(sidecars)}}.items():
        part = blake3.blake3()
        if isinstance(content, Path):
            part.update_mmap(content)
        else:
            part.update(content)
        hasher.update(f"{name}\0{part.hexdigest()}\n".encode())
    text = hasher.hexdigest()
    return text
