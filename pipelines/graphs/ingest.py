"""Survey, plan, pack, commit: raw objects to one more snapshot of a dataset, with Ray Data over units."""

import errno
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import blake3
import pyarrow as pa
import ray

import modalities
from modalities.base import Modality
from pipelines.jsontext import digest
from pipelines.parquet import from_parquet, to_parquet
from pipelines.shards import manifest as manifests
from pipelines.shards.closing import begin_run, commit_run
from pipelines.shards.dataset import Dataset
from pipelines.shards.manifest import Books, Conflict, Manifest
from pipelines.shards.pack import pack_unit, write_plan
from pipelines.shards.plan import SURVEY, Plan, make_plan
from pipelines.shards.storage import Storage, open_storage
from pipelines.sources import Entry, list_source
from pipelines.stages.process import check_stages
from pipelines.stages.survey import survey_entries

CHUNKS = ((64, 32), (1024, 256), (2**62, 4096))  # until chunk i, so many entries a survey task
PASSING = ("unreadable",)  # reasons that may be gone the next time: the same entry is tried again
LISTING = pa.schema([("id", pa.int64()), ("entry", pa.string())])
Report = Callable[[str, int, int], None]  # phase, units done, units in all


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A committed snapshot, and the books of this run alone; `added` is False when nothing was new."""

    manifest: Manifest
    books: Books
    added: bool


def ingest(
    source: Any, output: str, *, modality: str, settings: Mapping[str, Any], job: Mapping[str, Any],
    report: Report = lambda *_: None,
    connect: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Outcome:  # fmt: skip
    """Bring what is new in `source` into the dataset at `output`. Interrupted, it goes on where it was.

    `settings` decide the bytes: stages, decode, dedup, seed, split {val, test}, shards {max_bytes,
    max_samples, shuffle}. Raises Conflict when the dataset was built with others, or by somebody else
    at the same time. Source: the protocol that pipelines.sources.list_source takes. `connect` gives a
    connection to Ray; it is entered only when there is something to do.
    """
    kind = modalities.get(modality)
    check_stages(settings["stages"], kind)
    storage = open_storage(output)
    parent = manifests.load(storage) if manifests.latest(storage) is not None else None
    settings_digest = digest([modality, settings])
    if parent and (parent.modality, parent.settings) != (modality, settings_digest):
        raise Conflict(
            f"{output} holds a {parent.modality} dataset built with other settings "
            f"({_differences(parent.job, job)}); give this one an output of its own"
        )
    known = Dataset(storage, parent) if parent else None
    survey_id, chunks = _list(storage, source, kind, settings_digest, known)
    if known and not chunks:
        return Outcome(manifest=known.manifest, books=Books(), added=False)
    anonymous = bool(getattr(source, "anonymous", False))
    with connect():
        survey = _survey(storage, survey_id, chunks, modality, settings, report, anonymous=anonymous)
        plan = _plan(survey, known, settings, kind.patterns)
        if known and not plan.samples.num_rows and not plan.dropped.num_rows:
            return Outcome(manifest=known.manifest, books=Books(), added=False)
        name = write_plan(storage, plan, modality, survey=survey_id, anonymous=anonymous)
        begin_run(storage, name)
        _pack(storage, name, plan.units, report)
    manifest, books = commit_run(
        storage, run=f"{survey_id}/{name}", parent=parent, left_out=_left_out(plan), modality=modality,
        settings=settings_digest, classes=plan.classes, job=job,
    )  # fmt: skip
    return Outcome(manifest=manifest, books=books, added=True)


def _list(
    storage: Storage, source: Any, kind: Modality, settings: str, known: Dataset | None
) -> tuple[str, int]:
    """Write down what the source holds and the parent snapshot has not seen, in chunks."""
    seen = known.listed() if known else frozenset()
    again = {row["name"] for row in known.dropped() if row["reason"] in PASSING} if known else set()
    listed = ((_entry_id(entry), entry) for entry in list_source(source, kind))
    new = ((id_, entry) for id_, entry in listed if id_ not in seen or entry.name in again)
    hasher = blake3.blake3(f"{settings}{known.manifest.digest if known else ''}".encode())
    with tempfile.TemporaryDirectory(prefix="rayloom-") as folder:
        chunks = 0
        while chunk := list(islice(new, next(size for until, size in CHUNKS if chunks < until))):
            ids, entries = zip(*chunk, strict=True)
            columns = {"id": ids, "entry": [entry.to_json() for entry in entries]}
            table = pa.table(columns, schema=LISTING)
            Path(folder, f"{chunks:06}").write_bytes(to_parquet(table))
            hasher.update(b"".join(id_.to_bytes(8, "little", signed=True) for id_ in ids))
            chunks += 1
        survey_id = hasher.hexdigest()[:32]
        for i in range(chunks):
            storage.put(f"runs/{survey_id}/listing/{i:06}.parquet", Path(folder, f"{i:06}"))
    return survey_id, chunks


def _entry_id(entry: Entry) -> int:
    """64 bits of everything the listing says: a touched file gets another, and is looked at again."""
    return int.from_bytes(blake3.blake3(entry.to_json().encode()).digest(8), "little", signed=True)


def _survey(
    storage: Storage,
    survey_id: str,
    chunks: int,
    modality: str,
    settings: Mapping[str, Any],
    report: Report,
    *,
    anonymous: bool,
) -> pa.Table:
    url, stages, decode = storage.url, settings["stages"], settings["decode"]

    def look(row: dict[str, Any]) -> dict[str, Any]:
        store, i = open_storage(url), row["id"]
        if store.size(key := f"runs/{survey_id}/survey/{i:06}.parquet") is None:
            listing = from_parquet(store.get(f"runs/{survey_id}/listing/{i:06}.parquet"))
            entries = [Entry.from_json(text) for text in listing["entry"].to_pylist()]
            kind = modalities.get(modality)
            rows = survey_entries(entries, kind, stages, decode=decode, anonymous=anonymous)
            store.put(key, to_parquet(pa.Table.from_pylist(rows, schema=SURVEY)))
        return {"id": i}

    for _ in _run(look, chunks, "survey", report):
        pass
    keys = [f"runs/{survey_id}/survey/{i:06}.parquet" for i in range(chunks)]
    tables = [from_parquet(storage.get(key)) for key in keys]
    return pa.concat_tables(tables) if tables else SURVEY.empty_table()


def _plan(
    survey: pa.Table, known: Dataset | None, settings: Mapping[str, Any], patterns: tuple[str, ...]
) -> Plan:
    reasons = set(survey["reason"].to_pylist())
    if reasons == {"no-such-field"}:
        raise LookupError(f"no sample has what the filters ask for: {survey['detail'][0].as_py()}")
    if known is None:
        return make_plan(survey, settings=settings, patterns=patterns)
    index = known.table(["key", "content", "source", "label", "caption"])
    there = {row["source"]: row for row in index.to_pylist()}
    left_out = {(row["name"], row["content"], row["reason"]) for row in known.dropped()}
    left_contents = {(name, content) for name, content, _ in left_out}
    fresh = []
    for row in survey.to_pylist():
        before = there.get(row["name"])
        if before and before["content"] == row["content"]:
            _same_words(row, before)
            continue
        if before and row["status"] == "ok":
            row |= {
                "status": "quarantined",
                "reason": "changed",
                "detail": "a snapshot holds this name with other bytes; rename it, or build a new dataset",
            }
        known_drop = (row["name"], row["content"], row["reason"]) in left_out
        known_duplicate = row["status"] == "ok" and (row["name"], row["content"]) in left_contents
        if not (known_drop or known_duplicate):
            fresh.append(row)
    return make_plan(
        pa.Table.from_pylist(fresh, schema=SURVEY),
        settings=settings,
        patterns=patterns,
        taken_keys=frozenset(index["key"].to_pylist()),
        known_contents=frozenset(index["content"].to_pylist()),
        known_classes=known.manifest.classes,
    )


def _same_words(row: Mapping[str, Any], before: Mapping[str, Any]) -> None:
    for field in ("label", "caption"):
        if row["status"] == "ok" and row[field] != before[field]:
            raise Conflict(
                f"{row['name']} has {field} {row[field]!r} now, {before[field]!r} in the snapshot before. "
                "Give the dataset another output; if folders are classes, say so with source.labels: folder"
            )


def _pack(storage: Storage, plan: str, units: int, report: Report) -> None:
    url = storage.url

    def pack(row: dict[str, Any]) -> dict[str, Any]:
        pack_unit(open_storage(url), plan, row["id"])
        return row

    for _ in _run(pack, units, "pack", report):
        pass


def _run(
    task: Callable[[dict[str, Any]], dict[str, Any]], units: int, phase: str, report: Report
) -> Iterator[int]:
    """Run `task` once for every unit. A worker that dies is replaced; tasks are idempotent."""
    if units == 0:
        return

    def guarded(row: dict[str, Any]) -> dict[str, Any]:
        try:
            return {**task(row), "errno": 0, "problem": "", "file": ""}
        except OSError as e:  # Ray would wrap it, and lose that it was a full disk
            problem = e.strerror or str(e)
            return {**row, "errno": e.errno or errno.EIO, "problem": problem, "file": str(e.filename or "")}

    report(phase, 0, units)
    rows = ray.data.range(units, override_num_blocks=units).map(guarded, num_cpus=1)
    for count, row in enumerate(rows.iter_rows(), 1):
        if row["errno"]:
            raise OSError(row["errno"], row["problem"], row["file"] or None)
        report(phase, count, units)
        yield row["id"]


def _left_out(plan: Plan) -> Books:
    statuses = plan.dropped["status"].to_pylist()
    return Books(
        quarantined=statuses.count("quarantined"),
        filtered=statuses.count("filtered"),
        duplicates=statuses.count("duplicate"),
    )


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    names = [k for k in sorted({*old, *new}) if old.get(k) != new.get(k) and k not in ("source", "output")]
    return ", ".join(names) or "an earlier version"
