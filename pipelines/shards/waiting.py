"""Duplicates of what was lost: what was to stay instead of them could not be written when it was packed.

They wait: the next run looks at them again and writes one of them. What became of them then is in the account
of that run, and no longer in that of the run which dropped them.
"""

import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

import modalities
from pipelines.parquet import from_parquet
from pipelines.seal import Corrupt
from pipelines.shards.dataset import Dataset
from pipelines.shards.marks import hash64, suffix_of
from pipelines.shards.quarantine import REPLAY, dropped_keys
from pipelines.shards.storage import Storage, read_verified
from pipelines.sources import Entry

WAITS: Final = "waits"  # a status instead of duplicate
PIECES: Final = ["status", "name", "suffix", "content"]  # columns that `Waiting.told` needs
_ROW = np.dtype(
    [
        ("run", "<i8"),
        ("name", "<u8"),
        ("part", "<u8"),  # of the name and the suffix
        ("piece", "<u8"),  # and of the content
        ("root", "<u8"),  # of a duplicate: the name or the part that was lost
    ]
)
Rows = NDArray[Any]  # of _ROW
Hashes = NDArray[np.uint64]


class Waiting(NamedTuple):
    """Hashes of what waits in a snapshot, of what waited in an earlier one, and of what was lost."""

    rows: Rows
    past: Rows  # a later run has looked at them again
    lost: Rows  # quarantined when it was packed, and not written since

    @property
    def names(self) -> Hashes:
        """Of whatever a snapshot may have some pieces of, while others are to be written yet."""
        return np.unique(np.concatenate([self.rows["name"], self.lost["name"]]))

    def told(self, table: pa.Table, run: int, status: str = "duplicate") -> pa.Table:
        """What `run` left out, with PIECES, but for what is in the past; what waits gets this status."""
        rows, past = (some["piece"][some["run"] == run] for some in (self.rows, self.past))
        if not len(rows) + len(past):
            return table
        pieces = _hashed("piece", *(table[name] for name in PIECES[1:]))
        dropped = pc.equal(table["status"], "duplicate")
        waits = pc.and_(dropped, pa.array(np.isin(pieces, rows)))
        place = table.schema.get_field_index("status")
        table = table.set_column(place, "status", pc.if_else(waits, status, table["status"]))
        return table.filter(pc.invert(pc.and_(dropped, pa.array(np.isin(pieces, past)))))


def waiting(dataset: Dataset) -> Waiting:
    """What waits in this snapshot, run by run; of a run of which nothing was lost only keys are listed.

    Corrupt: what tells of it is lost.
    """
    books, job = dataset.manifest.books, dataset.manifest.job
    if not books.duplicates + books.quarantined or job.get("dedup") == "none":
        nothing = np.empty(0, _ROW)
        return Waiting(nothing, nothing, nothing)
    try:
        return _waiting(dataset)
    except FileNotFoundError as e:
        raise Corrupt(f"{e.filename or e} is lost; run rayloom check, then rayloom repair") from e


def _waiting(dataset: Dataset) -> Waiting:
    rows = past = lost = np.empty(0, _ROW)
    for number, run in enumerate(dataset.manifest.plans):
        survey, _, plan = run.rpartition("/")
        if len(lost):
            listed = listed_of(dataset.storage, survey, np.concatenate([rows["name"], lost["name"]]))
            taken = np.isin(rows["name"], listed) & (not survey.startswith(REPLAY))
            past, rows = np.concatenate([past, rows[taken]]), rows[~taken]
            if np.isin(lost["name"], listed).any():
                lost = lost[~np.isin(lost["piece"], _written(dataset, plan))]
                rows = rows[np.isin(rows["root"], _keys(lost))]
        if len(failed := _failed(dataset.storage, plan, number)):
            lost = np.concatenate([lost, failed])
            rows = np.concatenate([rows, _duplicates(dataset.storage, plan, number, _keys(failed))])
    return Waiting(rows, past, lost)


def taken_up(dataset: Dataset, survey: str) -> int:
    """How many of those that wait in a snapshot the run of this survey, its next one, looks at again."""
    names = waiting(dataset).rows["name"]
    return int(np.isin(names, listed_of(dataset.storage, survey, names)).sum()) if len(names) else 0


def listed_of(storage: Storage, survey: str, names: Hashes) -> Hashes:
    """Those of the hashed names that a survey has looked at."""
    from pipelines.shards.runs import read_record

    found = [np.empty(0, np.uint64)]
    for i in range(len(read_record(storage, survey).listing)):
        key = f"runs/{survey}/listing/{i:06}.parquet"
        texts = read_verified(storage, key, from_parquet)["entry"].to_pylist()
        found.append(np.intersect1d(name_hashes([Entry.from_json(text).name for text in texts]), names))
    return np.concatenate(found)


def name_hashes(names: list[str]) -> Hashes:
    """64 bits of each."""
    return np.array([hash64("name", name) for name in names], np.uint64)


def _hashed(what: str, *columns: pa.ChunkedArray) -> Hashes:
    values = zip(*(column.to_pylist() for column in columns), strict=True)
    return np.array([hash64(what, *some) for some in values], np.uint64)


def _rows(table: pa.Table, run: int) -> Rows:
    rows = np.zeros(table.num_rows, _ROW)
    rows["run"], rows["name"] = run, name_hashes(table["name"].to_pylist())
    rows["part"] = _hashed("part", table["name"], table["suffix"])
    rows["piece"] = _hashed("piece", table["name"], table["suffix"], table["content"])
    return rows


def _keys(rows: Rows) -> Hashes:
    """What duplicates of these may call them."""
    return np.unique(np.concatenate([rows["name"], rows["part"]]))


def _failed(storage: Storage, plan: str, run: int) -> Rows:
    """What a run quarantined when it packed."""
    from pipelines.shards.planned import left_out_key

    found = [np.empty(0, _ROW)]
    planned = left_out_key(plan, 0)[:-14]
    for key in dropped_keys(storage, plan):
        if not key.startswith(planned):
            table = read_verified(storage, key, lambda content: from_parquet(content, PIECES))
            found.append(_rows(table.filter(pc.equal(table["status"], "quarantined")), run))
    return np.concatenate(found)


def _duplicates(storage: Storage, plan: str, run: int, lost: Hashes) -> Rows:
    """Duplicates of what was lost, and duplicates of these."""
    rows, keys, roots = np.empty(0, _ROW), lost, lost
    while True:
        found = [np.empty(0, _ROW)]
        for table in _planned(storage, plan):
            of = _of(table)
            at = np.minimum(np.searchsorted(keys, of), len(keys) - 1)
            mine = keys[at] == of
            some = _rows(table.filter(pa.array(mine)), run)
            some["root"] = roots[at[mine]]
            found.append(some)
        if len(more := np.concatenate(found)) == len(rows):
            return rows
        rows = more
        keys = np.concatenate([lost, rows["name"], rows["part"]])
        keys, first = np.unique(keys, return_index=True)
        roots = np.concatenate([lost, rows["root"], rows["root"]])[first]


def _planned(storage: Storage, plan: str) -> Iterator[pa.Table]:
    from pipelines.shards.planned import left_out_key, read_plan

    for part in range(read_plan(storage, plan)["parts"].get("dropped", 0)):
        table = read_verified(
            storage, left_out_key(plan, part),
            lambda content: from_parquet(content, [*PIECES, "reason", "detail"]),
        )  # fmt: skip
        yield table.filter(pc.equal(table["status"], "duplicate"))


def _of(table: pa.Table) -> Hashes:
    """What each duplicate is one of: that piece of an object of the same bytes, else some piece of it."""
    columns = (table[name].to_pylist() for name in ("detail", "reason", "suffix"))
    of = []
    for detail, reason, suffix in zip(*columns, strict=True):
        name = re.sub(r", \d+ of 64 bits differ\Z", "", detail.removeprefix("of "))
        of.append(hash64("part", name, suffix) if reason == "same-bytes" else hash64("name", name))
    return np.array(of, np.uint64)


def _written(dataset: Dataset, plan: str) -> Hashes:
    """The pieces that a run wrote."""
    from pipelines.shards.pack import read_done
    from pipelines.shards.planned import unit_sizes

    storage, found = dataset.storage, [np.empty(0, np.uint64)]
    patterns = modalities.get(dataset.manifest.modality).patterns
    for unit in range(len(unit_sizes(storage, plan))):
        if (done := read_done(storage, plan, unit)) and done.shard:
            table = dataset.index(done.shard, ["key", "source", "content"])
            named = zip(table["key"].to_pylist(), table["source"].to_pylist(), strict=True)
            suffixes = pa.chunked_array([[suffix_of(key, name, patterns) for key, name in named]])
            found.append(_hashed("piece", table["source"], suffixes, table["content"]))
    return np.concatenate(found)
