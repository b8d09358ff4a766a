from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipelines.parquet import from_parquet
from pipelines.shards import arrivals, spill
from pipelines.shards.arrivals import CHUNKS, entry_id, write_arrivals
from pipelines.shards.storage import LocalStorage
from pipelines.sources import Entry, Part


def entries(count: int, size: int = 7) -> list[Entry]:
    return [Entry(name=f"{i:05}.jpg", content=Part(uri=f"/s/{i:05}.jpg", size=size)) for i in range(count)]


class Seen:
    """What write_arrivals asks of the snapshot before."""

    def __init__(self, seen: list[Entry], unreadable: list[str] = ()) -> None:  # type: ignore[assignment]
        self._ids = np.array([entry_id(entry.to_json()) for entry in seen], np.int64)
        self._unreadable = list(unreadable)

    def ids(self) -> Iterator[np.ndarray]:
        yield from np.array_split(self._ids, 3)

    def left_out(self) -> Iterator[pa.Table]:
        names = [*self._unreadable, "cut.jpg"]
        yield pa.table({"name": names, "reason": ["unreadable"] * len(self._unreadable) + ["truncated"]})


def listed(storage: LocalStorage, survey: str, chunks: int) -> list[str]:
    found = []
    for i in range(chunks):
        table = from_parquet(storage.get(f"runs/{survey}/listing/{i:06}.parquet"))
        assert table["id"].to_pylist() == [entry_id(text) for text in table["entry"].to_pylist()]
        found += [Entry.from_json(text).name for text in table["entry"].to_pylist()]
    return found


def test_every_entry_is_listed_once_in_its_order_in_chunks_that_grow(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    wanted = entries(3000)
    survey, chunks, *_ = write_arrivals(storage, iter(wanted), settings="s")
    assert listed(storage, survey, chunks) == [entry.name for entry in wanted]
    (until, small), (_, larger), _ = CHUNKS
    assert chunks == until + -(-(3000 - until * small) // larger)
    ids = [from_parquet(storage.get(key))["id"] for key in storage.list(f"runs/{survey}/ids/")]
    assert sum(map(len, ids)) == 3000


@pytest.mark.parametrize("little", [False, True])
def test_what_was_seen_is_left_out_but_for_what_could_not_be_read(
    little: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if little:
        monkeypatch.setattr(spill, "ROWS", 50)
        monkeypatch.setattr(spill, "FEWER_ROWS", 50)
        monkeypatch.setattr(arrivals, "BATCH", 30)
        monkeypatch.setattr(spill, "HELD_BYTES", 5000)
        monkeypatch.setattr(spill.Spill.__init__, "__kwdefaults__", {"bucket_bytes": 0})
    storage = LocalStorage(tmp_path)
    wanted = entries(400)
    touched = Entry(name="00007.jpg", content=Part(uri="/s/00007.jpg", size=8))
    listing = [*wanted[:7], touched, *wanted[8:]]
    known = Seen(wanted[:300], unreadable=["00011.jpg", "gone.jpg"])
    survey, chunks, *_ = write_arrivals(storage, listing, settings="s", known=known)  # type: ignore[arg-type]
    assert listed(storage, survey, chunks) == ["00007.jpg", "00011.jpg", *(e.name for e in wanted[300:])]


def test_the_name_covers_settings_parent_and_every_entry(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    names = {
        write_arrivals(storage, listing, settings=settings, parent=parent)[0]
        for listing in (entries(5), entries(6), entries(5, size=8))
        for settings in ("s", "t")
        for parent in ("", "p")
    }
    assert len(names) == 12
    assert write_arrivals(storage, entries(5), settings="s") == write_arrivals(
        storage, entries(5), settings="s"
    )


def test_quick_chunks_hold_every_entry_once_within_their_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrivals, "QUICK_BYTES", 5000)
    monkeypatch.setattr(arrivals, "BATCH", 700)
    storage = LocalStorage(tmp_path)
    wanted = [*entries(3000, size=1), *entries(3020, size=2000)[3000:], *entries(3021, size=9999)[3020:]]
    survey, chunks, *_ = write_arrivals(storage, iter(wanted), settings="s", quick=True)
    assert listed(storage, survey, chunks) == [entry.name for entry in wanted]
    tables = [from_parquet(storage.get(f"runs/{survey}/listing/{i:06}.parquet")) for i in range(chunks)]
    assert [table.num_rows for table in tables[:11]] == [256] * 11
    sizes = [[Entry.from_json(text).num_bytes for text in table["entry"].to_pylist()] for table in tables]
    assert all(sum(some) <= 5000 or len(some) == 1 for some in sizes)
    assert survey != write_arrivals(storage, iter(wanted), settings="s")[0]
