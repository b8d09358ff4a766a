"""Duplicates of what was lost: what was to stay instead of them could not be written when it was packed.

They wait: the next run looks at them again and writes one of them. What became of them then is in the account
of that run, and no longer in that of the run which dropped them. Copies of what failed for its content would
fail as well: they wait for a replay, which looks at them along with what it admits.
"""

import logging
import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

import modalities
from pipelines.jsontext import loads
from pipelines.parquet import from_parquet
from pipelines.seal import Corrupt
from pipelines.shards.ahead import ahead
from pipelines.shards.dataset import Dataset
from pipelines.shards.marks import suffix_of
from pipelines.shards.quarantine import REPLAY, dropped_keys
from pipelines.shards.storage import Storage, read_verified

log = logging.getLogger("rayloom")
WAITS: Final = "waits"  # a status instead of duplicate
PIECES: Final = ["status", "name", "suffix", "content"]  # columns that `Waiting.told` needs
OWN: Final = ("unreadable", "changed", "name-clash", "does-not-fit")  # reasons that copies may not share
_ROW = np.dtype(
    [
        ("run", "<i8"),
        ("name", "<u8"),
        ("part", "<u8"),  # of the name and the suffix
        ("piece", "<u8"),  # and of the content
        ("root", "<u8"),  # of a duplicate: the name or the part that was lost
        ("held", "?"),  # it was lost for its content, or has the bytes of what was
    ]
)
Rows = NDArray[Any]  # of _ROW
Hashes = NDArray[np.uint64]
_NAME = r'"name":"(?P<name>(?:[^"\\]|\\.)*)"'  # quotes in other texts of an entry are escaped


class Waiting(NamedTuple):
    """Hashes of what waits in a snapshot, of what waited in an earlier one, and of what was lost."""

    rows: Rows  # for the next run
    held: Rows  # for a replay
    past: Rows  # a later run has looked at them again
    lost: Rows  # quarantined when it was packed, and not written since

    @property
    def names(self) -> Hashes:
        """Of whatever a snapshot may have some pieces of, while others are to be written yet."""
        return np.unique(np.concatenate([some["name"] for some in (self.rows, self.held, self.lost)]))

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
        return Waiting(nothing, nothing, nothing, nothing)
    try:
        return _waiting(dataset)
    except FileNotFoundError as e:
        raise Corrupt(f"{e.filename or e} is lost; run rayloom check, then rayloom repair") from e


def _waiting(dataset: Dataset) -> Waiting:
    wait = past = lost = np.empty(0, _ROW)
    for number, run in enumerate(dataset.manifest.plans):
        survey, _, plan = run.rpartition("/")
        if len(lost):
            listed = _looked_at(dataset.storage, run, np.concatenate([wait["name"], lost["name"]]))
            taken = np.isin(wait["name"], listed) & (wait["held"] == survey.startswith(REPLAY))
            past, wait = np.concatenate([past, wait[taken]]), wait[~taken]
            if np.isin(lost["name"], listed).any():
                lost = lost[~np.isin(lost["piece"], _written(dataset, plan))]
                wait = wait[np.isin(wait["root"], keys_of(lost))]
        if len(failed := _failed(dataset.storage, plan, number)):
            lost = np.concatenate([lost, failed])
            wait = np.concatenate([wait, _duplicates(dataset.storage, plan, number, failed)])
    return Waiting(wait[~wait["held"]], wait[wait["held"]], past, lost)


def taken_up(dataset: Dataset, survey: str) -> int:
    """How many of those that wait in a snapshot the run of this survey, its next one, looks at again."""
    waits = waiting(dataset)
    names = (waits.held if survey.startswith(REPLAY) else waits.rows)["name"]
    return int(np.isin(names, listed_of(dataset.storage, survey, names)).sum()) if len(names) else 0


def _looked_at(storage: Storage, run: str, names: Hashes) -> Hashes:
    """As `listed_of`. Where the listing is lost the plan tells: what waited, or was written, is in it."""
    from pipelines.shards.planned import left_out_key, read_plan, unit_key

    survey, _, plan = run.rpartition("/")
    try:
        return listed_of(storage, survey, names)
    except (Corrupt, FileNotFoundError) as e:
        log.warning("%s; what this run looked at is told by its plan, and rayloom repair makes it anew", e)
    head = read_plan(storage, plan)
    keys = [unit_key(plan, unit) for unit in range(head["units"])]
    keys += [left_out_key(plan, part) for part in range(head["parts"].get("dropped", 0))]

    def among(key: str) -> Hashes:
        table = read_verified(storage, key, lambda content: from_parquet(content, ["name"]))
        hashes = name_hashes(table["name"].to_pylist())
        return hashes[np.isin(hashes, names)]

    return np.concatenate([names[:0], *ahead(among, keys)])


def listed_of(storage: Storage, survey: str, names: Hashes) -> Hashes:
    """Those of the hashed names that a survey has looked at."""
    from pipelines.shards.runs import read_record

    def among(i: int) -> Hashes:
        key = f"runs/{survey}/listing/{i:06}.parquet"
        listed = read_verified(storage, key, lambda content: from_parquet(content, ["entry"]))
        hashes = name_hashes(_names_in(listed))
        return hashes[np.isin(hashes, names)]

    return np.concatenate([names[:0], *ahead(among, range(len(read_record(storage, survey).listing)))])


def _names_in(listing: pa.Table) -> list[str]:
    """As `Entry.from_json` reads them, without the rest: millions are read for the few that wait."""
    told = pc.struct_field(pc.extract_regex(listing["entry"], _NAME), "name").to_pylist()
    return [loads(f'"{name}"') if "\\" in name else name for name in told]


def name_hashes(names: list[str]) -> Hashes:
    """64 bits of each, for this process alone: Python keys its own hash anew, and it is the quickest."""
    return np.fromiter(map(hash, names), np.int64, len(names)).view(np.uint64)


def _hashed(what: str, *columns: pa.ChunkedArray) -> Hashes:
    values = zip(*(column.to_pylist() for column in columns), strict=True)
    return name_hashes(["\0".join((what, *map(str, some))) for some in values])


def _rows(table: pa.Table, run: int) -> Rows:
    rows = np.zeros(table.num_rows, _ROW)
    rows["run"], rows["name"] = run, name_hashes(table["name"].to_pylist())
    rows["part"] = _hashed("part", table["name"], table["suffix"])
    rows["piece"] = _hashed("piece", table["name"], table["suffix"], table["content"])
    return rows


def keys_of(rows: Rows) -> Hashes:
    """What duplicates of these may call them."""
    return np.unique(np.concatenate([rows["name"], rows["part"]]))


def _failed(storage: Storage, plan: str, run: int) -> Rows:
    """What a run quarantined when it packed."""
    from pipelines.shards.planned import left_out_key

    found = [np.empty(0, _ROW)]
    planned = left_out_key(plan, 0)[:-14]
    for key in dropped_keys(storage, plan):
        if not key.startswith(planned):
            table = read_verified(storage, key, lambda content: from_parquet(content, [*PIECES, "reason"]))
            table = table.filter(pc.equal(table["status"], "quarantined"))
            rows = _rows(table, run)
            rows["held"] = pc.invert(pc.is_in(table["reason"], pa.array(OWN))).to_numpy()
            found.append(rows)
    return np.concatenate(found)


def _duplicates(storage: Storage, plan: str, run: int, lost: Rows) -> Rows:
    """Duplicates of what was lost, and duplicates of these; held where the bytes are those of what is."""
    rows = np.empty(0, _ROW)
    whole = np.zeros(len(lost), bool)  # by a name alone they are not of the same bytes
    while True:
        keys = np.concatenate([lost["name"], lost["part"], rows["name"], rows["part"]])
        keys, first = np.unique(keys, return_index=True)
        roots = np.concatenate([lost["name"], lost["part"], rows["root"], rows["root"]])[first]
        held = np.concatenate([whole, lost["held"], rows["held"], rows["held"]])[first]
        found = [np.empty(0, _ROW)]
        for table in _planned(storage, plan):
            of = _of(table)
            at = np.minimum(np.searchsorted(keys, of), len(keys) - 1)
            mine = keys[at] == of
            table, at = table.filter(pa.array(mine)), at[mine]
            some = _rows(table, run)
            some["root"] = roots[at]
            some["held"] = held[at] & pc.equal(table["reason"], "same-bytes").to_numpy()
            found.append(some)
        if len(more := np.concatenate(found)) == len(rows):
            return more
        rows = more


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
        of.append(f"part\0{name}\0{suffix}" if reason == "same-bytes" else name)
    return name_hashes(of)


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
