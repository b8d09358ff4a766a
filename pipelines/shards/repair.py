"""Making a damaged dataset whole again: only what is damaged, from the sources, with the same bytes."""

import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import blake3

import modalities
from pipelines.answers import STORE_FAILED
from pipelines.jsontext import digest
from pipelines.parquet import from_parquet
from pipelines.shards.check import UNREADABLE, Problem, find_problems
from pipelines.shards.dataset import Dataset
from pipelines.shards.known import Known
from pipelines.shards.manifest import (
    Manifest,
    Shard,
    copy_key,
    head_key,
    head_of,
    load,
    manifest_of,
    numbers,
    plan_of,
    read_head,
    shard_list,
)
from pipelines.shards.pack import Built, Done, build_unit, done_key, read_done, seal_done
from pipelines.shards.plan import Plan, Survey, make_plan
from pipelines.shards.planned import is_of_plan, name_of, read_plan, read_unit, write_plan
from pipelines.shards.quarantine import REPLAY, dropped_at, dropped_key
from pipelines.shards.replay import known_to, names_of
from pipelines.shards.runs import Record, plan_head, record_key, record_of
from pipelines.shards.storage import Storage, read_verified
from pipelines.shards.surveys import read_survey, record_anew, surveyed_anew
from pipelines.shards.tar import TarWriter

Row = dict[str, Any]  # of a planned unit
Try = tuple[list[Row], bool, Done | None]  # rows, whether as listed, and what is known of the others
Settings = Callable[[Mapping[str, Any]], Mapping[str, Any]]  # of a job: what decides the bytes
log = logging.getLogger("rayloom")


@dataclass(kw_only=True)
class Repaired:
    """Which objects were made anew, and what is still wrong."""

    objects: list[str] = field(default_factory=list)
    left: list[Problem] = field(default_factory=list)
    digest: str = ""


def repair(storage: Storage, *, settings_of: Settings) -> Repaired:
    """Rebuild what `rayloom check` finds damaged, and check again.

    Manifests come from their copies and the marks of their runs; shards from their own intact members or the
    sources; indexes, marks and quarantine from the sources, by the plan; plans from the survey; the survey
    from its listing and the sources. What is put in place has the bytes that the manifest, the plan's name
    or the run's record names, or is left as it was. One may need another, so it goes on while that helps.
    """
    problems, manifest = find_problems(storage)
    done = Repaired()
    if problems and (manifest is None or any(p.key.startswith("manifest/") for p in problems)):
        done.objects += _manifests(storage)
        problems, manifest = find_problems(storage)
    while manifest is not None and problems:
        damaged = {problem.key for problem in problems}
        placed = list(_runs(storage, manifest, damaged, settings_of))
        damaged |= {
            problem.key for problem in find_problems(storage, share=0.0)[0]
        }  # what a lost plan had hidden
        placed += _units(storage, manifest, damaged)
        done.objects += placed
        before, (problems, manifest) = problems, find_problems(storage)
        if not placed or problems == before:
            break  # else there is more to make others from
    done.left = [_advised(problem) for problem in problems]
    done.digest = manifest.digest if manifest else ""
    return done


def _advised(problem: Problem) -> Problem:
    """What is left, and what to do."""
    if re.match(r"runs/[^/]+/(ids|listing|survey|clusters)/|runs/[^/]+/planned", problem.key):
        advice = (
            "not made anew: its sources, or what else it is made from, are not what they were; put them back "
            "and repair again. No sample needs it, and ingests go on"
        )
        return Problem(problem.key, f"{problem.detail}; {advice}")
    return problem


def _manifests(storage: Storage) -> Iterator[str]:
    """Heads from the copies their runs keep, then shard lists from the marks of the runs."""
    copies: dict[int, list[dict[str, Any]]] = {}
    for key in storage.list("runs/"):
        if re.fullmatch(r"runs/[^/]+/head\.json", key):
            try:
                head = read_head(storage, key)
            except UNREADABLE:
                continue
            copies.setdefault(head["number"], []).append(head)
    parent_of = {head["number"]: head["parent"] for heads in copies.values() for head in heads}
    for number in range(max([*numbers(storage), -1]) + 1):
        key = head_key(number)
        try:
            head = read_head(storage, key)
            intact = head["number"] == number
        except UNREADABLE:
            intact = False
        if not intact:
            wanted = parent_of.get(number + 1)
            found = [h for h in copies.get(number, []) if wanted in (None, h["digest"])]
            if len(found) != 1:
                continue
            head = found[0]
        try:
            load(storage, number)
        except UNREADABLE:
            shards = (of(storage, head) for of in (_listed_shards, _marked_shards))
            made = (manifest_of(head, found) for found in shards)
            if (manifest := next((m for m in made if m.digest == head["digest"]), None)) is None:
                continue
            if not intact:
                storage.replace(key, head_of(manifest))
                yield key
            if not _readable(storage, number):
                storage.replace(head["shards"], shard_list(manifest))
                yield head["shards"]


def _readable(storage: Storage, number: int) -> bool:
    try:
        load(storage, number)
    except UNREADABLE:
        return False
    return True


def _listed_shards(storage: Storage, head: dict[str, Any]) -> list[Shard]:
    """Shards of a snapshot, as its list has them."""
    try:
        return [Shard(**row) for row in read_verified(storage, head["shards"], from_parquet).to_pylist()]
    except UNREADABLE:
        return []


def _marked_shards(storage: Storage, head: dict[str, Any]) -> list[Shard]:
    """Shards of all runs of a snapshot, in order, as their marks have them."""
    shards = []
    for run in head["plans"]:
        plan = plan_of(run)
        try:
            for unit in range(read_plan(storage, plan)["units"]):
                mark = read_done(storage, plan, unit)
                shards += [mark.shard] if mark and mark.shard else []
        except UNREADABLE:
            continue
    return shards


def _runs(storage: Storage, manifest: Manifest, damaged: set[str], settings_of: Settings) -> Iterator[str]:
    """Copies of heads, then what each run was made from, then its plan, then the record of both."""
    for number, run in enumerate(manifest.plans):
        survey, _, plan = run.rpartition("/")
        key = f"runs/{plan}/head.json"
        if not _readable(storage, number):
            continue
        snapshot = load(storage, number)
        if key in damaged:
            storage.replace(copy_key(snapshot), head_of(snapshot))
            yield key
        settings = settings_of(snapshot.job)
        if digest([snapshot.modality, settings]) != snapshot.settings:
            continue  # of another version
        anonymous = bool(snapshot.job.get("source", {}).get("anonymous", False))
        if any(key.startswith(f"runs/{survey}/") for key in damaged):
            yield from _surveyed(storage, snapshot, damaged, settings, anonymous=anonymous)
        keys = sorted(key for key in damaged if is_of_plan(key, plan))
        lost = record_key(survey) in damaged
        if (keys or lost) and (made := _planned_again(storage, snapshot, settings)):
            write_plan(storage, made, snapshot.modality, survey=survey, anonymous=anonymous)
            yield from keys
            if lost and (record := _recorded(storage, run, made)):
                storage.replace(record_key(survey), record.sealed())
                yield record_key(survey)


def _surveyed(
    storage: Storage, snapshot: Manifest, damaged: set[str], settings: Mapping[str, Any], *, anonymous: bool
) -> Iterator[str]:
    run = snapshot.plans[-1]
    try:
        record = record_of(storage, run)
    except UNREADABLE:
        return  # nothing says which bytes are wanted
    kind = modalities.get(snapshot.modality)
    yield from surveyed_anew(storage, run, record, damaged, kind, settings, anonymous=anonymous)


def _recorded(storage: Storage, run: str, plan: Plan) -> Record | None:
    try:
        return record_anew(storage, run, plan.parts.get("clusters", []))
    except UNREADABLE:
        return None


def _planned_again(storage: Storage, snapshot: Manifest, settings: Mapping[str, Any]) -> Plan | None:
    """The plan of a snapshot made anew from its survey; None when that gives another, or nothing."""
    survey, _, plan = snapshot.plans[-1].rpartition("/")
    try:
        read = read_survey(storage, survey, len(list(storage.list(f"runs/{survey}/survey/"))))
        rows = sum(table.num_rows for table in read(["status"]))
        made = make_plan(Survey(rows, read), settings=settings, known=_known(storage, snapshot, survey))
    except UNREADABLE:
        return None
    return made if name_of(made, survey) == plan else None


def _known(storage: Storage, snapshot: Manifest, survey: str) -> Known | None:
    if not snapshot.number:
        return None
    again = frozenset(names_of(storage, survey)) if survey.startswith(REPLAY) else None
    return known_to(Dataset(storage, load(storage, snapshot.number - 1)), again)


def _units(storage: Storage, manifest: Manifest, damaged: set[str]) -> Iterator[str]:
    """Units with a damaged shard, index, mark or quarantine, one after the other."""
    dataset = Dataset(storage, manifest)
    wanted = {shard.digest: shard for shard in manifest.shards}
    for shard in manifest.shards:
        if shard.key in damaged and shard.index_key not in damaged and _salvaged(dataset, shard):
            damaged = damaged - {shard.key}
            yield shard.key
    firsts = cache(lambda: _firsts(dataset, damaged))
    for plan in dataset.plans():
        try:
            head = plan_head(storage, plan)
        except UNREADABLE:
            continue  # the plan itself is gone; the check that follows says so
        for unit in _broken(storage, plan, head, damaged):
            if _mark(storage, plan, unit) is None and (done := _marked_anew(dataset, plan, unit, firsts())):
                storage.replace(done_key(plan, unit), seal_done(plan, unit, done))
                yield done_key(plan, unit)
            else:
                yield from _unit(dataset, plan, unit, head, wanted, damaged)


def _firsts(dataset: Dataset, damaged: set[str]) -> dict[str, Shard]:
    """The key of the first sample of each shard that is whole, and so is its index."""
    whole = (shard for shard in dataset.manifest.shards if not {shard.key, shard.index_key} & damaged)
    return {dataset.index(shard, ["key"])["key"][0].as_py(): shard for shard in whole}


def _marked_anew(dataset: Dataset, plan: str, unit: int, firsts: Mapping[str, Shard]) -> Done | None:
    """The mark of a unit whose shard is whole: what is not in there was left out, and must be told."""
    try:
        planned = read_unit(dataset.storage, plan, unit)
    except UNREADABLE:
        return None
    if (shard := next((firsts[row["key"]] for row in planned if row["key"] in firsts), None)) is None:
        return None
    written = dataset.index(shard, ["key"])["key"].to_pylist()
    nothing = Done(shard=None, counts={"quarantined": 0, "filtered": 0})
    for rows, _, known in [(planned, False, nothing), *_left_out(dataset.storage, plan, unit, None, planned)]:
        if known and [row["key"] for row in rows] == written:
            return replace(known, shard=shard, counts={**known.counts, "written": len(written)})
    return None


def _unit(
    dataset: Dataset, plan: str, unit: int, head: dict[str, Any], wanted: dict[str, Shard], damaged: set[str]
) -> Iterator[str]:
    storage = dataset.storage
    try:
        planned = read_unit(storage, plan, unit)
    except UNREADABLE:
        return
    mark = _mark(storage, plan, unit)
    tries: list[Try] = [(planned, True, None), (planned, False, None)]  # as listed; or moved or touched since
    # What was left out may be mended since, or gone: its rows are not built, where they are still told.
    told: list[Try] = list(_left_out(storage, plan, unit, mark, planned))
    if not mark:  # where all are left out, it may be by a worker that saw less than the one who counts
        tries, told = [one for one in told if one[0]] + tries, [one for one in told if not one[0]]
    for rows, as_listed, known in [*tries, *told]:
        with storage.staging() as folder:
            try:
                built = build_unit(rows, head, folder, as_listed=as_listed)
            except STORE_FAILED as e:  # other units, or these rows without some, may need other sources
                log.warning("%s", e)
                continue
            if known:
                counts = {**known.counts, "written": len(rows)}
                built = replace(built, done=replace(known, shard=built.done.shard, counts=counts))
            shard = built.done.shard
            fits = wanted.get(shard.digest) == shard if shard else known and not rows and not _untold(dataset)
            if built.done == mark if mark else fits:
                yield from _placed(storage, plan, unit, built, damaged)
                return


def _untold(dataset: Dataset) -> bool:
    """Whether some shard is named by no mark: a unit without its mark has written it, and not nothing."""
    storage, marks = dataset.storage, list[Done | None]()
    try:
        for plan in dataset.plans():
            marks += (_mark(storage, plan, unit) for unit in range(read_plan(storage, plan)["units"]))
    except UNREADABLE:
        return True
    named = {mark.shard.digest for mark in marks if mark and mark.shard}
    return any(shard.digest not in named for shard in dataset.manifest.shards)


def _left_out(storage: Storage, plan: str, unit: int, mark: Done | None, planned: list[Row]) -> Iterator[Try]:
    """Without the rows that an intact quarantine file of the unit names: that of its mark, or any."""
    if mark:
        keys = [dropped_at(storage, plan, unit, mark.left_out)] if mark.left_out else []
    else:
        folder = dropped_key(plan, unit, "").rpartition("/")[0] + "/"
        keys = [key for key in storage.list(folder) if key.startswith(f"{folder}{unit:06}-")]
    for key in keys:
        try:
            content = read_verified(storage, key, _sealed)
            rows = from_parquet(content, ["name", "suffix", "status"]).to_pylist()
        except UNREADABLE:
            continue
        gone = {(row["name"], row["suffix"]) for row in rows}
        kept = [row for row in planned if (row["name"], row["suffix"]) not in gone]
        statuses = Counter(row["status"] for row in rows)
        counts = {status: statuses[status] for status in ("quarantined", "filtered")}
        left_out = blake3.blake3(content).hexdigest()
        if dropped_key(plan, unit, left_out) == key or (mark and mark.left_out == left_out):
            yield kept, False, Done(shard=None, counts=counts, left_out=left_out)


def _sealed(content: bytes) -> bytes:
    from_parquet(content, [])
    return content


def _broken(storage: Storage, plan: str, head: dict[str, Any], damaged: set[str]) -> Iterator[int]:
    """Units that must be built again. Without a readable mark, a unit may be the one of any damaged shard."""
    for unit in range(head["units"]):
        keys = {done_key(plan, unit)}
        mark = _mark(storage, plan, unit)
        if mark and mark.shard:
            keys |= {mark.shard.key, mark.shard.index_key}
        if mark and mark.left_out:
            keys.add(dropped_at(storage, plan, unit, mark.left_out))
        if keys & damaged or mark is None:
            yield unit


def _mark(storage: Storage, plan: str, unit: int) -> Done | None:
    try:
        return read_done(storage, plan, unit)
    except UNREADABLE:
        return None


def _placed(storage: Storage, plan: str, unit: int, built: Built, damaged: set[str]) -> Iterator[str]:
    parts: dict[str, bytes | Path] = {done_key(plan, unit): seal_done(plan, unit, built.done)}
    if built.done.shard:
        parts[built.done.shard.key] = built.tar
        parts[built.done.shard.index_key] = built.index
    if built.dropped:
        parts[dropped_at(storage, plan, unit, built.done.left_out)] = built.dropped
    for key in parts.keys() & damaged:
        storage.replace(key, parts[key])
        yield key


def _salvaged(dataset: Dataset, shard: Shard) -> bool:
    """Write a shard again from its members, when they are intact and only what is between them is not."""
    try:
        with dataset.storage.staging() as folder:
            path = folder / "shard.tar"
            with path.open("wb") as file:
                tar = TarWriter(file)
                for row in dataset.rows(shard):
                    for ext, content in dataset.files(shard, row).items():
                        tar.add(f"{row.key}.{ext}", content)
                intact = tar.finish() == shard.digest
            if intact:
                dataset.storage.replace(shard.key, path)
    except (*UNREADABLE, OSError):
        return False
    return intact
