"""What a source holds and no snapshot has seen, written down in chunks for a survey."""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import blake3
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipelines.parquet import to_parquet
from pipelines.shards.ahead import ahead
from pipelines.shards.known import PASSING, Known
from pipelines.shards.plain import Apart, Listed
from pipelines.shards.spill import Spill, bucket_of, num_buckets
from pipelines.shards.storage import Storage, put_right
from pipelines.shards.turns import attempt
from pipelines.shards.waiting import WAITS, name_hashes
from pipelines.sources import Entry, Listing
from pipelines.sources.names import batches, looked_at

CHUNKS = ((64, 32), (1024, 256), (2**62, 4096))  # until chunk i, so many entries a survey task
QUICK_PARTS, QUICK_ENTRIES, QUICK_BYTES = 16, (256, 2048), 128 * 2**20  # where nothing is decoded
Spread = Callable[[Callable[[Listed], Any], Iterable[Listed]], Iterable[Any]]
BATCH = 4096  # entries held as objects
IDS_A_FILE = 2**20
LISTING = pa.schema([("id", pa.int64()), ("entry", pa.string())])
_LISTED = pa.schema([*LISTING, ("again", pa.bool_()), ("size", pa.int64())])
_IDS = pa.schema([("id", pa.uint64()), ("row", pa.int64())])


class Arrivals(NamedTuple):
    """What is new: chunks of entries to look at, and parts of the survey that are there, of so many rows."""

    survey: str  # its name
    chunks: int
    parts: int = 0
    rows: int = 0
    plain: Sequence[int] = ()  # entries of each of these parts
    digests: Mapping[str, Sequence[str]] = {}  # BLAKE3 of the files of ids, of listing, and of these parts


def listing_key(survey: str, chunk: int) -> str:
    return f"runs/{survey}/listing/{chunk:06}.parquet"


def ids_key(survey: str, number: int) -> str:
    return f"runs/{survey}/ids/{number:06}.parquet"


def survey_key(survey: str, part: int) -> str:
    """What was found in a chunk; behind the chunks come the parts that the listing told."""
    return f"runs/{survey}/survey/{part:06}.parquet"


def write_arrivals(
    storage: Storage, found: Iterable[Listing], *, settings: str, known: Known | None = None,
    parent: str = "", prefix: str = "", quick: bool = False, apart: Apart | None = None, spread: Spread = map,
) -> Arrivals:  # fmt: skip
    """Store what is new of a listing, and its ids, by survey.

    The survey's name is `prefix` and a digest of the settings, the parent and every new entry in its order;
    with a prefix also that of an `attempt`, which may be forgotten.
    What the `known` snapshot has looked at is left out, but for what could not be read then, and duplicates
    of what was lost. `quick`: a survey will only read the entries, not decode them, so its chunks may be
    larger. `apart` gives the rows of entries that need no survey; for a first snapshot. `spread` maps over
    batches of these, in their order, perhaps elsewhere. No listing is held in memory: it lies in a temporary
    folder.
    """
    with tempfile.TemporaryDirectory(prefix="rayloom-listing-") as temporary:
        folder = Path(temporary)
        again = _once_more(known) if known else np.empty(0, np.uint64)
        listed = Spill(folder / "listed", _LISTED, 1)
        # Other chunks are another survey: what a run left that cut them otherwise must not be taken up.
        ways = f"{'quick' if quick else ''}{'named' if apart else ''}"
        ids = _Ids(folder, blake3.blake3(f"{settings}{parent}{ways}".encode()))
        chunks, told = 0, list[int]()

        def plain() -> Iterator[Listed]:
            for batch in batches(found if apart else looked_at(found), BATCH):
                alone, others = apart(batch) if apart else (None, list(looked_at(batch)))
                listed.add(_table(others, again), np.zeros(len(others), np.int64))
                if alone and alone.found:
                    yield alone

        for content, found_ids in spread(partial(_told, apart), plain()):
            (folder / f"part-{len(told):06}").write_bytes(content)
            ids.add(found_ids)
            told.append(len(found_ids))
        fresh = _fresh(listed, known, folder) if known else None
        count = listed.rows if fresh is None else int(np.count_nonzero(fresh))
        kept = _kept(listed, fresh)
        for chunk in _quick_chunks(kept, count) if quick else _chunks(kept):
            chunk = chunk.select(LISTING.names).combine_chunks()
            (folder / f"chunk-{chunks:06}").write_bytes(to_parquet(chunk))
            ids.add(chunk["id"].to_numpy())
            chunks += 1
        survey = prefix + ids.finish()
        if prefix and chunks:
            survey = attempt(storage, survey)
        digests = {
            "listing": _put(storage, folder, "chunk", [listing_key(survey, i) for i in range(chunks)]),
            "survey": _put(
                storage, folder, "part", [survey_key(survey, chunks + i) for i in range(len(told))]
            ),
            "ids": _put(storage, folder, "ids", [ids_key(survey, i) for i in range(ids.files)]),
        }
    return Arrivals(survey, chunks, len(told), sum(told), told, digests)


def _put(storage: Storage, folder: Path, name: str, keys: list[str]) -> list[str]:
    """Store the files of `folder` that go by `name`, in order; their BLAKE3."""

    def put(number: int) -> str:
        content = (folder / f"{name}-{number:06}").read_bytes()
        put_right(storage, keys[number], content)
        digest: str = blake3.blake3(content).hexdigest()
        return digest

    return list(ahead(put, range(len(keys))))


def ids_anew(folder: Path, listed: Iterable[NDArray[np.int64]]) -> list[Path]:
    """The files of ids in `folder`, of those of each part and then of each chunk."""
    ids = _Ids(folder, blake3.blake3())
    for found in listed:
        ids.add(found)
    ids.finish()
    return [folder / f"ids-{i:06}" for i in range(ids.files)]


def listing_anew(entries: list[str]) -> bytes:
    """The file of a chunk of these entries."""
    return to_parquet(pa.table([ids_of(entries), entries], schema=LISTING))


class _Ids:
    """Ids of new entries: hashed as they come, and written to files of IDS_A_FILE."""

    def __init__(self, folder: Path, hasher: Any) -> None:
        self.files = 0
        self._folder, self._hasher = folder, hasher
        self._waiting = np.empty(0, np.int64)

    def add(self, ids: NDArray[np.int64]) -> None:
        self._hasher.update(ids.tobytes())
        self._waiting = np.concatenate([self._waiting, ids])
        if len(self._waiting) >= IDS_A_FILE:
            self._write()

    def finish(self) -> str:
        """Write the rest; 128 bits of all of them."""
        if len(self._waiting):
            self._write()
        digest: str = self._hasher.hexdigest()[:32]
        return digest

    def _write(self) -> None:
        content = to_parquet(pa.table({"id": self._waiting}))
        (self._folder / f"ids-{self.files:06}").write_bytes(content)
        self.files, self._waiting = self.files + 1, self._waiting[:0]


def _told(apart: Apart | None, listed: Listed) -> tuple[bytes, NDArray[np.int64]]:
    """A part of the survey, and the ids of its entries."""
    assert apart
    table = apart.rows(listed)
    return to_parquet(table), ids_of(table["entry"].to_pylist())


def entry_id(text: str) -> int:
    """64 bits of everything the listing says: a touched file gets another, and is looked at again."""
    return int.from_bytes(blake3.blake3(text.encode()).digest(8), "little", signed=True)


def _table(batch: list[Entry], again: NDArray[np.uint64]) -> pa.Table:
    texts = [entry.to_json() for entry in batch]
    ids = ids_of(texts)
    sizes = [entry.num_bytes for entry in batch]
    flags = np.zeros(len(batch), bool)
    if len(again):
        flags = np.isin(name_hashes([entry.name for entry in batch]), again)
    return pa.table([ids, texts, flags, sizes], schema=_LISTED)


def ids_of(texts: list[str]) -> NDArray[np.int64]:
    """`entry_id` of each."""
    return np.frombuffer(b"".join([blake3.blake3(text.encode()).digest(8) for text in texts]), "<i8")


def _once_more(known: Known) -> NDArray[np.uint64]:
    """Hashed names of what could not be read, and of duplicates of what was lost."""
    found = [np.empty(0, np.uint64)]
    for table in known.left_out():
        wanted = pc.is_in(table["reason"], pa.array(PASSING))
        if "status" in table.schema.names:
            wanted = pc.or_(wanted, pc.equal(table["status"], WAITS))
        found.append(name_hashes(table.filter(wanted)["name"].to_pylist()))
    return np.unique(np.concatenate(found))


def _fresh(listed: Spill, known: Known, folder: Path) -> NDArray[np.bool_]:
    """Which listed entries the snapshot has not seen, or could not read: a byte each, in a file."""
    if not listed.rows:
        return np.empty(0, bool)
    buckets = num_buckets(listed.rows)
    ids = Spill(folder / "ids", _IDS, buckets)
    start = 0

    def add(found: NDArray[np.int64], rows: NDArray[np.int64]) -> None:
        hashes = found.view(np.uint64)
        ids.add(pa.table([pa.array(hashes), pa.array(rows)], schema=_IDS), bucket_of(hashes, buckets))

    fresh: Any = np.memmap(folder / "fresh", bool, "w+", shape=(listed.rows,))
    for part in listed.parts():
        add(part["id"].to_numpy(), np.arange(start, start + part.num_rows))
        fresh[start : start + part.num_rows] = part["again"].to_numpy()
        start += part.num_rows
    for seen in known.ids():
        add(seen, np.full(len(seen), -1))
    for bucket in ids:
        hashes, rows = bucket["id"].to_numpy(), bucket["row"].to_numpy()
        new = rows >= 0
        fresh[rows[new][~np.isin(hashes[new], hashes[~new])]] = True
    found: NDArray[np.bool_] = fresh
    return found


def _kept(listed: Spill, fresh: NDArray[np.bool_] | None) -> Iterator[pa.Table]:
    start = 0
    for part in listed.parts():
        end = start + part.num_rows
        kept = part if fresh is None else part.filter(pa.array(np.asarray(fresh[start:end])))
        yield kept
        start = end


def _chunks(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Tables of the sizes that CHUNKS wants: small ones first, so that every worker has work soon."""
    held, chunks = _LISTED.empty_table(), 0
    for table in tables:
        held = pa.concat_tables([held, table])
        while held.num_rows >= (size := _size(chunks)):
            yield held.slice(0, size)
            held, chunks = held.slice(size), chunks + 1
    while held.num_rows:
        yield held.slice(0, size := _size(chunks))
        held, chunks = held.slice(size), chunks + 1


def _quick_chunks(tables: Iterator[pa.Table], count: int) -> Iterator[pa.Table]:
    """QUICK_PARTS of `count` entries, or more of them: none of more than QUICK_ENTRIES or QUICK_BYTES."""
    fewest, most = QUICK_ENTRIES
    size = min(max(-(-count // QUICK_PARTS), fewest), most)
    held = _LISTED.empty_table()
    for table in tables:
        held = pa.concat_tables([held, table])
        while held.num_rows >= size:
            yield (chunk := _within(held.slice(0, size), QUICK_BYTES))
            held = held.slice(chunk.num_rows)
    while held.num_rows:
        yield (chunk := _within(held.slice(0, size), QUICK_BYTES))
        held = held.slice(chunk.num_rows)


def _within(table: pa.Table, num_bytes: int) -> pa.Table:
    """The first entries, one at least, that have so many bytes together."""
    through = np.cumsum(table["size"].to_numpy())
    return table.slice(0, max(1, int(np.searchsorted(through, num_bytes, side="right"))))


def _size(chunk: int) -> int:
    return next(size for until, size in CHUNKS if chunk < until)
