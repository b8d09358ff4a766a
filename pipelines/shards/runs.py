"""What a run leaves beside its shards: a plan, a survey, and a record of both; whether they are whole."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import blake3
import pyarrow as pa

from pipelines.jsontext import digest
from pipelines.parquet import from_parquet, parquet_file
from pipelines.seal import Corrupt, seal, unseal
from pipelines.shards.ahead import ahead
from pipelines.shards.arrivals import ids_key, listing_key, survey_key
from pipelines.shards.planned import (
    clusters_key,
    head_key,
    left_out_key,
    read_plan,
    unit_key,
    units_key,
)
from pipelines.shards.storage import Storage, read_verified
from pipelines.shards.turns import forgotten, overtaken

UNREADABLE = (Corrupt, FileNotFoundError, ValueError, KeyError, TypeError, pa.ArrowException)


@dataclass(frozen=True)
class Problem:
    """What is wrong, and with which object."""

    key: str
    detail: str

    def __str__(self) -> str:
        return f"{self.key}: {self.detail}"


@dataclass(frozen=True, kw_only=True)
class Record:
    """The plan of a survey, and the BLAKE3 of every file of both that the plan's own name does not cover."""

    plan: str
    ids: Sequence[str] = ()
    listing: Sequence[str] = ()
    survey: Sequence[str] = ()  # first a part for each chunk of the listing, then those that the listing told
    clusters: Sequence[str] = ()
    plain: Sequence[int] = ()  # entries of each part that the listing told

    def sealed(self) -> bytes:
        """As it is stored."""
        return seal(asdict(self))

    def objects(self, survey: str) -> Iterator[tuple[str, str]]:
        """Key and BLAKE3 of each."""
        yield from ((ids_key(survey, i), name) for i, name in enumerate(self.ids))
        yield from ((listing_key(survey, i), name) for i, name in enumerate(self.listing))
        yield from ((survey_key(survey, i), name) for i, name in enumerate(self.survey))
        yield from ((clusters_key(self.plan, i), name) for i, name in enumerate(self.clusters))


def record_key(survey: str) -> str:
    return f"runs/{survey}/planned.json"


def read_record(storage: Storage, survey: str) -> Record:
    """The record of a survey of which there is a plan."""
    return Record(**read_verified(storage, record_key(survey), unseal))


def record_of(storage: Storage, run: str) -> Record:
    """That of a run whose plan is known; one of UNREADABLE when there is no such."""
    survey, _, plan = run.rpartition("/")
    record = read_record(storage, survey)
    if record.plan != plan:
        raise Corrupt(f"it is the record of plan {record.plan}")
    return record


def require_shared(storage: Storage, run: str, *, tries: bool) -> None:
    """Conflict: of the survey, that a snapshot is about to name, another builder forgot something.

    `tries`: it is named by an `attempt`.
    """
    survey = run.rpartition("/")[0]
    there = {*storage.list(f"runs/{survey}/")}
    try:
        keys = [key for key, _ in record_of(storage, run).objects(survey)]
    except (Corrupt, FileNotFoundError) as e:
        raise overtaken(storage) from e
    ours = (key for key in keys if key.startswith(f"runs/{survey}/") and key not in there)
    if any(storage.size(key) is None for key in ours) or (tries and forgotten(storage, survey)):
        raise overtaken(storage)


def plan_head(storage: Storage, plan: str) -> dict[str, Any]:
    """The head of a plan with all its fields; Corrupt when it is another record."""
    head = read_plan(storage, plan)
    if missing := {"settings", "classes", "units", "parts", "modality"} - head.keys():
        raise Corrupt(f"no plan: it lacks {sorted(missing)}")
    return head


def run_problems(storage: Storage, run: str) -> Iterator[Problem]:
    """What of a run's plan and survey is not what it was; units, marks and shards are another matter."""
    plan = run.rpartition("/")[2]
    key = head_key(plan)
    try:
        head = plan_head(storage, plan)
        key = units_key(plan)
        units = read_verified(storage, key, from_parquet)["digest"].to_pylist()
    except UNREADABLE as e:
        yield Problem(key, text_of(e))
    else:
        yield from _plan(storage, run, head, units)
    yield from _survey(storage, run)


def _plan(storage: Storage, run: str, head: Mapping[str, Any], units: list[str]) -> Iterator[Problem]:
    """A plan is named by the digests of its parts, so its name says whether they are what they were."""
    survey, _, plan = run.rpartition("/")
    for unit, want in enumerate(units):
        yield from other_than(storage, unit_key(plan, unit), want)
    left_out, lost = [], False
    for part in range(head["parts"].get("dropped", 0)):
        key = left_out_key(plan, part)
        try:
            left_out.append(blake3.blake3(storage.get(key)).hexdigest())
            read_verified(storage, key, from_parquet)
        except UNREADABLE as e:
            lost = True
            yield Problem(key, text_of(e))
    if not lost and digest([survey, digest([head["settings"], head["classes"], units, left_out])]) != plan:
        yield Problem(head_key(plan), "the parts of this plan are not those it was named by")
        yield from (
            Problem(left_out_key(plan, i), "may be that of another plan") for i in range(len(left_out))
        )


def _survey(storage: Storage, run: str) -> Iterator[Problem]:
    """The files on record; where there is no record of them, whether each is sealed."""
    survey, _, plan = run.rpartition("/")
    if not survey:  # a plan of somebody's own table
        return
    record = None
    try:
        record = record_of(storage, run)
    except UNREADABLE as e:
        yield Problem(record_key(survey), text_of(e))
    if record and record.survey:
        found = ahead(lambda one: list(other_than(storage, *one)), record.objects(survey))
    else:
        folders = (f"runs/{survey}/", f"runs/{plan}/clusters/")
        keys = (key for folder in folders for key in storage.list(folder) if key.endswith(".parquet"))
        found = ahead(lambda key: list(_unsealed(storage, key)), keys)
    for problems in found:
        yield from problems


def other_than(storage: Storage, key: str, want: str) -> Iterator[Problem]:
    """Whether an object has the BLAKE3 that is known of it."""
    for _ in range(2):  # once more: a bit that flipped on the way is right the second time
        try:
            found = blake3.blake3(storage.get(key)).hexdigest()
        except FileNotFoundError:
            found = "missing"
        if found == want:
            return
    yield Problem(key, found if found == "missing" else "its bytes are not what they were")


def _unsealed(storage: Storage, key: str) -> Iterator[Problem]:
    try:
        read_verified(storage, key, parquet_file)
    except UNREADABLE as e:
        yield Problem(key, text_of(e))


def text_of(error: BaseException) -> str:
    """What an error says of an object."""
    return "missing" if isinstance(error, FileNotFoundError) else f"{error}"
