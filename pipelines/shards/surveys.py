"""A survey's files: how a part is made, and how each is made anew from the others when it is damaged."""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import blake3
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from modalities.base import Modality
from pipelines.answers import STORE_FAILED
from pipelines.parquet import from_parquet, to_parquet
from pipelines.seal import Corrupt
from pipelines.shards.ahead import ahead
from pipelines.shards.arrivals import (
    ids_anew,
    ids_key,
    ids_of,
    listing_anew,
    listing_key,
    survey_key,
)
from pipelines.shards.known import PASSING
from pipelines.shards.manifest import Conflict
from pipelines.shards.marks import SURVEY, marked
from pipelines.shards.plain import Listed, apart
from pipelines.shards.plan import READERS, compared
from pipelines.shards.planned import left_out_key, read_plan, unit_key
from pipelines.shards.runs import UNREADABLE, Record, record_key
from pipelines.shards.storage import Storage, read_verified
from pipelines.sources import Entry
from pipelines.stages.survey import survey_entries


def look_at(texts: list[str], kind: Modality, settings: Mapping[str, Any], *, anonymous: bool) -> bytes:
    """A part of the survey: what becomes of each of these entries, as MARKED."""
    entries = [Entry.from_json(text) for text in texts]
    found = survey_entries(
        entries, kind, settings["stages"], decode=settings["decode"], compare=compared(settings),
        anonymous=anonymous,
    )  # fmt: skip
    table = pa.Table.from_pylist(found, schema=SURVEY)
    return to_parquet(marked(table, settings=settings, patterns=kind.patterns))


def entries_of(part: pa.Table) -> list[str]:
    """The entries that a part of the survey looked at: each has a row, or several together."""
    if "entry" not in part.schema.names:
        raise Corrupt("it is no part of a survey")
    texts = part["entry"].to_pylist()
    return [text for i, text in enumerate(texts) if not i or text != texts[i - 1]]


def read_survey(
    storage: Storage, survey: str, parts: int, wanted: Sequence[str] = ()
) -> Callable[[list[str]], Iterator[pa.Table]]:
    """What reads these columns of a stored survey, part by part, each with the `wanted` BLAKE3.

    Conflict: one has another by now.
    """

    def part(i: int, columns: list[str]) -> pa.Table:
        def parse(content: bytes) -> pa.Table:
            if wanted and blake3.blake3(content).hexdigest() != wanted[i]:
                table = from_parquet(content, columns)  # Corrupt, where it is only damaged
                raise Conflict(
                    f"another builder of {storage.url} looked at {table.num_rows} entries anew meanwhile; "
                    "run the same job again"
                )
            return from_parquet(content, columns)

        return read_verified(storage, survey_key(survey, i), parse)

    return lambda columns: ahead(partial(part, columns=columns), range(parts), READERS)


def forget_unread(storage: Storage, survey: str, parts: int) -> None:
    """A run that nothing came of leaves no part that could not be read: the next one looks again."""

    def unread(i: int) -> bool:
        try:
            table = _table(storage, survey_key(survey, i), ["reason"])
        except FileNotFoundError:  # another builder of the same forgot it first
            return False
        return bool(pc.any(pc.is_in(table["reason"], pa.array(PASSING))).as_py())

    for i, forgets in enumerate(ahead(unread, range(parts), READERS)):
        if forgets and storage.size(record_key(survey)) is None:  # else somebody needs it
            storage.delete(survey_key(survey, i))


def _table(storage: Storage, key: str, columns: list[str] | None = None) -> pa.Table:
    return read_verified(storage, key, lambda content: from_parquet(content, columns))


def surveyed_anew(
    storage: Storage, run: str, record: Record, damaged: set[str], kind: Modality,
    settings: Mapping[str, Any], *, anonymous: bool,
) -> Iterator[str]:  # fmt: skip
    """Put damaged files of a survey in place, when they can be made with the bytes on record; their keys.

    A chunk of the listing comes from its part of the survey, and a part from its chunk by another look at
    the sources; a part that the listing told from the plan, by the ids; ids from listing and such parts.
    """
    survey = run.rpartition("/")[0]
    wanted, chunks = dict(record.objects(survey)), len(record.listing)

    def placed(key: str, make: Callable[[], bytes]) -> Iterator[str]:
        if key in damaged:
            try:
                content = make()
            except UNREADABLE:
                return
            if blake3.blake3(content).hexdigest() == wanted[key]:
                storage.replace(key, content)
                yield key

    for i in range(chunks):
        listed, part = listing_key(survey, i), survey_key(survey, i)

        def from_part(part: str = part) -> bytes:
            return listing_anew(entries_of(_table(storage, part, ["entry"])))

        def from_sources(listed: str = listed) -> bytes:
            texts = _table(storage, listed, ["entry"])["entry"].to_pylist()
            try:
                return look_at(texts, kind, settings, anonymous=anonymous)
            except STORE_FAILED as e:
                raise FileNotFoundError(f"the sources of {listed}: {e}") from e

        yield from placed(listed, from_part)
        yield from placed(part, from_sources)
    for i in range(len(record.plain)):

        def from_plan(i: int = i) -> bytes:
            return _told_anew(storage, survey, record, i, kind, settings)

        yield from placed(survey_key(survey, chunks + i), from_plan)
    if any(ids_key(survey, i) in damaged for i in range(len(record.ids))):
        with tempfile.TemporaryDirectory(prefix="rayloom-ids-") as folder:
            try:
                files = ids_anew(Path(folder), _listed(storage, survey, chunks, len(record.plain)))
            except UNREADABLE:
                return
            for i, path in enumerate(files):
                yield from placed(ids_key(survey, i), path.read_bytes)


def _listed(storage: Storage, survey: str, chunks: int, plain: int) -> Iterator[NDArray[np.int64]]:
    """Ids in their order: of the parts that the listing told, then of its chunks."""
    for part in range(chunks, chunks + plain):
        yield ids_of(_table(storage, survey_key(survey, part), ["entry"])["entry"].to_pylist())
    for chunk in range(chunks):
        yield _table(storage, listing_key(survey, chunk), ["id"])["id"].to_numpy()


def _told_anew(
    storage: Storage, survey: str, record: Record, part: int, kind: Modality, settings: Mapping[str, Any]
) -> bytes:
    """A part that the listing told: its entries lie in the plan, and their order in the ids."""
    start = sum(record.plain[:part])
    ids = np.concatenate(list(_ids_from(storage, survey, record, start, start + record.plain[part])))
    texts: dict[int, str] = {}
    head = read_plan(storage, record.plan)
    keys = [unit_key(record.plan, i) for i in range(head["units"])]
    keys += [left_out_key(record.plan, i) for i in range(head["parts"].get("dropped", 0))]
    for key in keys:
        entries = _table(storage, key, ["entry"])["entry"].to_pylist()
        found = ids_of(entries)
        texts |= {int(found[i]): entries[i] for i in np.flatnonzero(np.isin(found, ids)).tolist()}
    if (tell := apart(settings, patterns=kind.patterns)) is None:
        raise Corrupt("with these settings no part of a survey is told by the listing")
    return to_parquet(tell.rows(Listed([Entry.from_json(texts[one]) for one in ids.tolist()])))


def _ids_from(
    storage: Storage, survey: str, record: Record, start: int, end: int
) -> Iterator[NDArray[np.int64]]:
    first = 0
    for i in range(len(record.ids)):
        found = _table(storage, ids_key(survey, i), ["id"])["id"].to_numpy()
        yield found[max(start - first, 0) : max(end - first, 0)]
        first += len(found)


def record_anew(storage: Storage, run: str, clusters: list[str]) -> Record:
    """The record of a survey whose files are all there; one of UNREADABLE when they are not."""
    survey, _, plan = run.rpartition("/")
    digests = {
        what: [_digest(storage, key) for key in storage.list(f"runs/{survey}/{what}/")]
        for what in ("ids", "listing", "survey")
    }
    chunks = len(digests["listing"])
    plain = []
    for part in range(chunks, len(digests["survey"])):
        table = _table(storage, survey_key(survey, part), ["content"])
        if table["content"].null_count < table.num_rows:
            raise Corrupt(f"{survey_key(survey, part)} was no listing's: a chunk of the listing is lost")
        plain.append(table.num_rows)
    with tempfile.TemporaryDirectory(prefix="rayloom-ids-") as folder:
        files = ids_anew(Path(folder), _listed(storage, survey, chunks, len(plain)))
        if [blake3.blake3(path.read_bytes()).hexdigest() for path in files] != digests["ids"]:
            raise Corrupt(f"the ids in runs/{survey} are not those of its listing")
    return Record(plan=plan, clusters=clusters, plain=plain, **digests)


def _digest(storage: Storage, key: str) -> str:
    """BLAKE3 of a file whose seal is whole."""

    def parse(content: bytes) -> str:
        from_parquet(content, [])
        found: str = blake3.blake3(content).hexdigest()
        return found

    return read_verified(storage, key, parse)
