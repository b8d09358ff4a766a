"""What a source holds and no snapshot has seen, written down in chunks for a survey."""

import tempfile
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import blake3
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.parquet import to_parquet
from pipelines.shards.ahead import ahead
from pipelines.shards.known import Known
from pipelines.shards.marks import hash64
from pipelines.shards.spill import Spill, bucket_of, num_buckets
from pipelines.shards.storage import Storage
from pipelines.sources import Entry

CHUNKS = ((64, 32), (1024, 256), (2**62, 4096))  # until chunk i, so many entries a survey task
QUICK_PARTS, QUICK_ENTRIES, QUICK_BYTES = 16, (256, 2048), 128 * 2**20  # where nothing is decoded
PASSING = ("unreadable",)  # reasons that may be gone the next time: the same entry is tried again
BATCH = 4096  # entries held as objects
IDS_A_FILE = 2**20
LISTING = pa.schema([("id", pa.int64()), ("entry", pa.string())])
_LISTED = pa.schema([*LISTING, ("again", pa.bool_()), ("size", pa.int64())])
_IDS = pa.schema([("id", pa.uint64()), ("row", pa.int64())])


def write_arrivals(
    storage: Storage, entries: Iterable[Entry], *, settings: str, known: Known | None = None,
    parent: str = "", prefix: str = "", quick: bool = False,
) -> tuple[str, int]:  # fmt: skip
    """Store what is new of a listing, and its ids, by survey; the survey's name, and how many chunks.

    The name is `prefix` and a digest of the settings, the parent and every new entry in its order. What the
    `known` snapshot has looked at is left out, but for what could not be read then. `quick`: a survey will
    only read the entries, not decode them, so its chunks may be larger. No listing is held in memory: it lies
    in a temporary folder.
    """
    with tempfile.TemporaryDirectory(prefix="rayloom-listing-") as temporary:
        folder = Path(temporary)
        again = _unreadable(known) if known else np.empty(0, np.uint64)
        listed = Spill(folder / "listed", _LISTED, 1)
        for batch in _batches(iter(entries), BATCH):
            listed.add(_table(batch, again), np.zeros(len(batch), np.int64))
        fresh = _fresh(listed, known, folder) if known else None
        # Other chunks are another survey: what a run left that cut them otherwise must not be taken up.
        hasher = blake3.blake3(f"{settings}{parent}{'quick' if quick else ''}".encode())
        chunks = ids = 0
        waiting = np.empty(0, np.int64)
        count = listed.rows if fresh is None else int(np.count_nonzero(fresh))
        kept = _kept(listed, fresh)
        for chunk in _quick_chunks(kept, count) if quick else _chunks(kept):
            chunk = chunk.select(LISTING.names).combine_chunks()
            (folder / f"chunk-{chunks:06}").write_bytes(to_parquet(chunk))
            new = chunk["id"].to_numpy()
            hasher.update(new.tobytes())
            waiting, chunks = np.concatenate([waiting, new]), chunks + 1
            if len(waiting) >= IDS_A_FILE:
                ids, waiting = _write_ids(folder, ids, waiting), waiting[:0]
        if len(waiting):
            ids = _write_ids(folder, ids, waiting)
        survey = prefix + hasher.hexdigest()[:32]
        files = [(f"runs/{survey}/listing/{i:06}.parquet", folder / f"chunk-{i:06}") for i in range(chunks)]
        files += [(f"runs/{survey}/ids/{i:06}.parquet", folder / f"ids-{i:06}") for i in range(ids)]
        for _ in ahead(lambda file: storage.put(*file), files):
            pass
    return survey, chunks


def entry_id(text: str) -> int:
    """64 bits of everything the listing says: a touched file gets another, and is looked at again."""
    return int.from_bytes(blake3.blake3(text.encode()).digest(8), "little", signed=True)


def _batches(entries: Iterator[Entry], size: int) -> Iterator[list[Entry]]:
    while batch := list(islice(entries, size)):
        yield batch


def _table(batch: list[Entry], again: NDArray[np.uint64]) -> pa.Table:
    texts = [entry.to_json() for entry in batch]
    ids = np.frombuffer(b"".join([blake3.blake3(text.encode()).digest(8) for text in texts]), "<i8")
    sizes = [entry.num_bytes for entry in batch]
    flags = np.zeros(len(batch), bool)
    if len(again):
        flags = np.isin(np.array([hash64("name", entry.name) for entry in batch], np.uint64), again)
    return pa.table([ids, texts, flags, sizes], schema=_LISTED)


def _unreadable(known: Known) -> NDArray[np.uint64]:
    names: list[str] = []
    for table in known.left_out():
        names += table.filter(pa.compute.is_in(table["reason"], pa.array(PASSING)))["name"].to_pylist()
    return np.unique(np.array([hash64("name", name) for name in names], np.uint64))


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


def _write_ids(folder: Path, number: int, ids: NDArray[np.int64]) -> int:
    table = pa.table({"id": ids})
    (folder / f"ids-{number:06}").write_bytes(to_parquet(table))
    return number + 1
