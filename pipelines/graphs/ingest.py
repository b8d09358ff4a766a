"""Survey, plan, pack, commit: raw objects to one more snapshot of a dataset, by tasks of Ray."""

import errno
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import blake3
import ray

import modalities
from modalities.base import Modality
from pipelines.graphs.exchange import Shuffle
from pipelines.graphs.tasks import CPUS, cores, each, spread
from pipelines.jsontext import digest
from pipelines.parquet import from_parquet, parquet_file
from pipelines.seal import Corrupt
from pipelines.shards import manifest as manifests
from pipelines.shards.arrivals import Arrivals, listing_key, survey_key, write_arrivals
from pipelines.shards.closing import close_books, commit_run
from pipelines.shards.dataset import Dataset
from pipelines.shards.exchange import Exchanges, OnDisk
from pipelines.shards.manifest import Books, Conflict, Manifest
from pipelines.shards.pack import pack_unit
from pipelines.shards.plain import apart
from pipelines.shards.plan import Survey, compared, make_plan
from pipelines.shards.planned import read_plan, units_key, write_plan
from pipelines.shards.quarantine import REPLAY
from pipelines.shards.replay import forget, known_to, only, readmitted
from pipelines.shards.runs import (
    UNREADABLE,
    Record,
    read_record,
    record_key,
    require_shared,
    run_problems,
)
from pipelines.shards.storage import Storage, open_storage, put_right, read_verified
from pipelines.shards.surveys import entries_of, forget_unread, look_at, read_survey
from pipelines.shards.turns import building, end_attempt, sharing
from pipelines.sources import Listing, find_objects
from pipelines.stages.process import check_stages, decodes

log = logging.getLogger("rayloom")
SHUFFLED = 2**20  # inputs from which several nodes look for duplicates: few are compared before they begin
AWAKE = 64  # workers at most that start before there is work: in a larger cluster one start is little
Report = Callable[[str, int, int], None]  # phase, units done, units in all


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A committed snapshot, and the books of this run alone; `added` is False when nothing was new."""

    manifest: Manifest
    books: Books
    added: bool


def ingest(
    source: Any, output: str, *, modality: str, settings: Mapping[str, Any], job: Mapping[str, Any],
    replay: frozenset[str] | None = None, report: Report = lambda *_: None,
    connect: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Outcome:  # fmt: skip
    """Bring what is new in `source` into the dataset at `output`. Interrupted, it goes on where it was.

    `settings` decide the bytes: stages, decode, dedup, seed, split {val, test}, shards {max_bytes,
    max_samples, shuffle}. Raises Conflict when the dataset was built with others, or by somebody else
    at the same time. Source: the protocol that pipelines.sources.list_source takes. `connect` gives a
    connection to Ray; it is entered only when there is something to do. `replay`: look at these names alone,
    which lie in quarantine, whatever was thought of them before.
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
    known = known_to(Dataset(storage, parent), replay) if parent else None
    nothing_new = Outcome(manifest=parent, books=Books(), added=False) if parent else None
    decoded = decodes(settings["stages"], decode=settings["decode"], compare=compared(settings))
    listing = only(find_objects(source, kind), replay)
    with ExitStack() as stack:
        if parent is None:  # all of it is new, so that workers can help to list
            listing = _begun(listing)
            stack.enter_context(connect())
            awake = _wake(kind, decode=decoded)
        arrivals = write_arrivals(
            storage, listing, settings=settings_digest, known=known, parent=parent.digest if parent else "",
            prefix="" if replay is None else REPLAY, quick=not decoded,
            apart=None if parent else apart(settings, patterns=kind.patterns), spread=spread,
        )  # fmt: skip
        survey = arrivals.survey
        if nothing_new and not arrivals.chunks:
            return nothing_new
        stack.enter_context(building(storage))
        stack.enter_context(sharing(storage, survey, tries=replay is not None))
        if parent is not None:
            stack.enter_context(connect())
            awake = _wake(kind, decode=decoded)
        plan = _planned(storage, survey)
        if plan is None:
            anonymous = bool(getattr(source, "anonymous", False))
            found, digests = _survey(storage, arrivals, modality, settings, report, anonymous=anonymous)
            made = make_plan(found, settings=settings, known=known, exchange=_exchange(found.rows))
            nothing = not made.num_samples and (replay is not None or not made.num_dropped)
            if nothing_new and nothing:
                if replay is not None:
                    forget(storage, survey)
                else:
                    forget_unread(storage, survey, arrivals.chunks)
                return nothing_new
            plan = write_plan(storage, made, modality, survey=survey, anonymous=anonymous)
            parts = {**arrivals.digests, "survey": [*digests, *arrivals.digests["survey"]]}
            record = Record(plan=plan, plain=arrivals.plain, clusters=made.parts.get("clusters", []), **parts)
            put_right(storage, record_key(survey), record.sealed())
        head = read_plan(storage, plan)
        _pack(storage, plan, report)
        left_out = _left_out(head["counts"])
        if nothing_new and replay is not None:
            tried, _ = close_books(storage, plan, left_out=left_out)
            if not tried.written:
                forget(storage, survey, plan)
                return nothing_new
        require_shared(storage, f"{survey}/{plan}", tries=replay is not None)
        manifest, books = commit_run(
            storage, run=f"{survey}/{plan}", parent=parent, left_out=left_out,
            modality=modality, settings=settings_digest, classes=head["classes"], job=job,
            readmitted=readmitted(Dataset(storage, parent), survey) if parent else Books(),
        )  # fmt: skip
        del awake
        if replay is not None:
            end_attempt(storage, survey)
    return Outcome(manifest=manifest, books=books, added=True)


def _begun(listing: Iterable[Listing]) -> Iterator[Listing]:
    """The same, its first part already there: a source that cannot be listed says so before Ray starts."""
    rest = iter(listing)
    first = list(islice(rest, 1))
    return chain(first, rest)


def _wake(kind: Modality, *, decode: bool) -> list[Any]:
    """Have Ray's workers import, and start their decoders, while the driver lists and plans.

    Nobody waits for what is returned, but it must be kept until then. Nothing, while Ray is not connected.
    """

    def wake() -> None:
        import pipelines.shards.pack  # noqa: F401  # and with it all that survey and pack need
        from pipelines.stages.sandbox import enabled, of_this_thread

        if decode and enabled():
            of_this_thread().start(modalities.get(name))

    if not ray.is_initialized():
        return []
    name, task = kind.name, ray.remote(num_cpus=CPUS, max_retries=0)(wake)
    return [task.remote() for _ in range(min(cores(), AWAKE))]


def _exchange(rows: int) -> Exchanges:
    """Who brings duplicates together. A machine alone takes its disk: as quick, and memory does not grow."""
    nodes: list[Any] = ray.nodes()  # type: ignore[no-untyped-call]
    several = sum(node["Alive"] and "CPU" in node["Resources"] for node in nodes) > 1
    return Shuffle if several and rows >= SHUFFLED else OnDisk


def _planned(storage: Storage, survey: str) -> str | None:
    """The plan that was made of a survey by a run that did not come to its end; None: it is made anew."""
    try:
        plan = read_record(storage, survey).plan
    except UNREADABLE:
        return None
    for problem in run_problems(storage, f"{survey}/{plan}"):
        log.warning("%s in %s; it is made anew", problem, storage.url)
        return None
    return plan


def _survey(
    storage: Storage, arrivals: Arrivals, modality: str, settings: Mapping[str, Any], report: Report, *,
    anonymous: bool,
) -> tuple[Survey, list[str]]:  # fmt: skip
    """Look at every listed entry; what was found stays on the storage, and is read from there in parts.

    With it the BLAKE3 of the part of each chunk.
    """
    url, survey = storage.url, arrivals.survey

    def look(row: dict[str, Any]) -> dict[str, Any]:
        store, i = open_storage(url), row["id"]
        key = survey_key(survey, i)
        texts = read_verified(store, listing_key(survey, i), from_parquet)["entry"].to_pylist()

        def told(content: bytes) -> dict[str, Any]:
            rows, name = parquet_file(content).metadata.num_rows, blake3.blake3(content).hexdigest()
            return {"id": i, "rows": rows, "digest": name, "problem": problem}

        problem = ""
        try:
            content, looked_at = read_verified(
                store, key, lambda found: (found, entries_of(from_parquet(found, ["entry"])))
            )
            if looked_at == texts:
                return told(content)
            raise Corrupt(f"{key} in {url} is the part of another chunk")
        except FileNotFoundError:
            pass
        except Corrupt as e:
            problem = f"{e}"
        content = look_at(texts, modalities.get(modality), settings, anonymous=anonymous)
        if problem:
            store.replace(key, content)
        elif not store.put(key, content):  # of two who looked, the first one counts
            content = store.get(key)
        return told(content)

    found = {row["id"]: row for row in _run(look, arrivals.chunks, "survey", report)}
    for row in found.values():
        if row["problem"]:
            log.warning("%s; what it told was looked at again", row["problem"])
    rows = arrivals.rows + sum(row["rows"] for row in found.values())
    digests = [found[i]["digest"] for i in range(arrivals.chunks)]
    wanted = [*digests, *arrivals.digests["survey"]]
    return Survey(rows, read_survey(storage, survey, len(wanted), wanted)), digests


def _pack(storage: Storage, plan: str, report: Report) -> None:
    url, units = storage.url, read_verified(storage, units_key(plan), parquet_file).metadata.num_rows

    def pack(row: dict[str, Any]) -> dict[str, Any]:
        pack_unit(open_storage(url), plan, row["id"])
        return row

    for _ in _run(pack, units, "pack", report):
        pass


def _run(
    task: Callable[[dict[str, Any]], dict[str, Any]], units: int, phase: str, report: Report
) -> Iterator[dict[str, Any]]:
    """Run `task` once for every unit. A worker that dies is replaced; tasks are idempotent."""
    if not units:
        return

    def guarded(unit: int) -> dict[str, Any]:
        try:
            return {**task({"id": unit}), "errno": 0}
        except OSError as e:  # Ray would wrap it, and lose that it was a full disk
            problem = e.strerror or str(e)
            code = errno.ENOENT if isinstance(e, FileNotFoundError) else errno.EIO  # stores give no number
            return {"errno": e.errno or code, "problem": problem, "file": str(e.filename or "")}

    report(phase, 0, units)
    with closing(each(guarded, units, phase)) as rows:
        for count, row in enumerate(rows, 1):
            if row["errno"]:
                raise OSError(row["errno"], row["problem"], row["file"] or None)
            report(phase, count, units)
            yield row


def _left_out(counts: Mapping[str, int]) -> Books:
    return Books(
        quarantined=counts.get("quarantined", 0),
        filtered=counts.get("filtered", 0),
        duplicates=counts.get("duplicate", 0),
    )


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    names = [k for k in sorted({*old, *new}) if old.get(k) != new.get(k) and k not in ("source", "output")]
    return ", ".join(names) or "an earlier version"
