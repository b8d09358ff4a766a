"""Another try for what lies in quarantine, after a fix of the files, of the machine or of rayloom.

An object of which a piece lies there is looked at as a whole. Its pieces that are written, filtered out or
duplicates keep their place; what else it gives now comes in, instead of what lay in quarantine of it. Along
with it come its copies that wait for a replay: it may be away by now, and one of them be written instead.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipelines.parquet import from_parquet
from pipelines.seal import Corrupt
from pipelines.shards.dataset import Dataset
from pipelines.shards.decisions import Decisions
from pipelines.shards.known import IN_INDEX, LEFT, LEFT_OUT, Known, Record, same_words, write_down
from pipelines.shards.manifest import Books
from pipelines.shards.quarantine import DROPPED, REPLAY, dropped_tables
from pipelines.shards.storage import Storage, read_verified
from pipelines.shards.turns import end_attempt
from pipelines.shards.waiting import PIECES, WAITS, keys_of, name_hashes, taken_up, waiting
from pipelines.sources import Entry, Listing
from pipelines.sources.names import looked_at


class _Replayed(Known):
    """A snapshot that tells pieces of some objects apart, and has forgotten which entries it has seen."""

    def __init__(self, dataset: Dataset, names: frozenset[str]) -> None:
        super().__init__(dataset)
        self._names = pa.array(sorted(names), pa.string())

    def _in_pieces(self, sources: pa.ChunkedArray) -> NDArray[np.bool_] | None:
        told: NDArray[np.bool_] = pc.is_in(sources, self._names).to_numpy()
        return told

    def left_out(self) -> Iterator[pa.Table]:
        for table in left_out(self._dataset, [*LEFT_OUT, "suffix", "status"], held=WAITS):
            yield table.filter(pc.is_in(table["name"], self._names))

    def ids(self) -> Iterator[NDArray[np.int64]]:
        return iter(())

    def settle(self, records: list[Record], decisions: Decisions) -> None:
        written: dict[tuple[str, str | None], Record] = {}
        again: set[tuple[str, str]] = set()  # in quarantine: a piece, or with "" an object as a whole
        elsewhere: set[tuple[str, str]] = set()
        for record in records:
            piece = (record["name"], record["suffix"])
            if record["row"] == IN_INDEX:
                written[piece] = record
            elif record["row"] == LEFT:
                (again if record["status"] in ("quarantined", WAITS) else elsewhere).add(piece)
        done: list[int] = []
        changed: list[int] = []
        for record in records:
            if record["row"] < 0 or record["status"] == "quarantined":
                continue
            piece, whole = (record["name"], record["suffix"]), (record["name"], "")
            before = written.get(piece) or written.get((record["name"], None))
            looked = piece in again or whole in again
            if before and before["content"] == record["content"]:
                same_words(record, before)
                done.append(record["row"])
            elif not looked and (before or piece in elsewhere):
                done.append(record["row"])
            elif before and record["status"] == "ok":
                changed.append(record["row"])
        write_down(done, changed, decisions)


def known_to(dataset: Dataset, replay: frozenset[str] | None) -> Known:
    """What a snapshot holds, but for what lies in quarantine of the names that are replayed."""
    return Known(dataset) if replay is None else _Replayed(dataset, replay)


def only(found: Iterable[Listing], replay: frozenset[str] | None) -> Iterable[Listing]:
    """The entries with these names, or all."""
    return found if replay is None else (entry for entry in looked_at(found) if entry.name in replay)


def names_of(storage: Storage, survey: str) -> set[str]:
    """Every name that a run looked at."""
    names: set[str] = set()
    for key in storage.list(f"runs/{survey}/listing/"):
        listing = read_verified(storage, key, from_parquet)
        names |= {Entry.from_json(text).name for text in listing["entry"].to_pylist()}
    return names


def left_out(
    dataset: Dataset, columns: list[str] | None = None, *, held: str = "duplicate"
) -> Iterator[pa.Table]:
    """What was left out, as DROPPED or its `columns`, name and status among them, file by file.

    What a replay looked at no longer lies in quarantine as earlier runs left it; nor is a duplicate one when
    what it was one of was lost, and a later run has looked at it again. `held`: a status for those that wait
    for a replay.
    """
    waits = waiting(dataset)
    waits = waits._replace(rows=waits.held)
    told = len(waits.past) + len(waits.held) > 0
    read = columns if columns is None or not told else [*dict.fromkeys([*columns, *PIECES])]
    storage, manifest = dataset.storage, dataset.manifest
    replays = [(i, run.partition("/")[0]) for i, run in enumerate(manifest.plans) if run.startswith(REPLAY)]
    looked = [(i, pa.array(sorted(names_of(storage, survey)), pa.string())) for i, survey in replays]
    for number, table in dropped_tables(storage, manifest, read):
        if told:
            table = waits.told(table, number, held).select(columns or DROPPED.names)
        for names in (names for i, names in looked if i > number):
            gone = pc.and_(pc.equal(table["status"], "quarantined"), pc.is_in(table["name"], names))
            table = table.filter(pc.invert(gone))
        yield table


def in_quarantine(dataset: Dataset) -> Iterator[tuple[str, str]]:
    """Name and reason of each sample that lies there.

    Corrupt, at the end: they are not as many as the books say, for a file that tells of them is lost.
    """
    count, told = 0, dataset.manifest.books.quarantined
    for table in left_out(dataset, ["status", "name", "reason"]):
        table = table.filter(pc.equal(table["status"], "quarantined"))
        count += table.num_rows
        yield from zip(table["name"].to_pylist(), table["reason"].to_pylist(), strict=True)
    if count != told:
        raise Corrupt(
            f"{count} samples lie in quarantine of {dataset.storage.url}, {told} by its books: "
            "a file is lost; run rayloom check, then rayloom repair"
        )


def to_replay(dataset: Dataset, reason: str | None = None) -> frozenset[str]:
    """Names of what lies in quarantine, for this reason or any, and of copies that wait for a replay."""
    names = frozenset(name for name, why in in_quarantine(dataset) if reason in (None, why))
    waits = waiting(dataset)
    lost = waits.lost[np.isin(waits.lost["name"], name_hashes([*names]))]
    if not len(held := waits.held[np.isin(waits.held["root"], keys_of(lost))]):
        return names
    waits = waits._replace(rows=held)
    for number, table in dropped_tables(dataset.storage, dataset.manifest, PIECES):
        table = waits.told(table, number, WAITS)
        names |= {*table.filter(pc.equal(table["status"], WAITS))["name"].to_pylist()}
    return names


def readmitted(parent: Dataset, survey: str) -> Books:
    """What of quarantine and duplicates in the books of `parent` the run of `survey` counts anew."""
    count = taken_up(parent, survey)
    books = Books(inputs=count, duplicates=count)
    if not survey.startswith(REPLAY):
        return books
    again = names_of(parent.storage, survey)
    count = sum(name in again for name, _ in in_quarantine(parent))
    return books + Books(inputs=count, quarantined=count)


def forget(storage: Storage, survey: str, plan: str = "") -> None:
    """A replay that nothing came of is as if it had not been: the next one looks, and builds, again."""
    if survey.startswith(REPLAY):
        end_attempt(storage, survey)
    # Marks first: a plan of which they are left would be taken up again, and believed.
    folders = [f"runs/{plan}/done/", f"runs/{plan}/", f"quarantine/{plan}/"] if plan else []
    for folder in (*folders, f"runs/{survey}/"):
        for key in storage.list(folder):
            storage.delete(key)
