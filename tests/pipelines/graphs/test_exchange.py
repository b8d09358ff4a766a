"""A shuffle of Ray Data brings together what one machine's disk does, and a plan is the same by either."""

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import ray

from pipelines.graphs import exchange
from pipelines.graphs.exchange import Shuffle
from pipelines.shards.duplicates import CANDIDATE, Duplicates
from pipelines.shards.exchange import OnDisk
from pipelines.stages.dedup import Values, mixed

pytestmark = pytest.mark.usefixtures("ray_cluster")
ROWS = pa.schema([("a", pa.uint64()), ("place", pa.int64())])


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many parts, many objects of few rows."""
    monkeypatch.setattr(exchange, "PART_ROWS", 200)
    monkeypatch.setattr(exchange, "HELD_BYTES", 4000)


def planted(count: int) -> pa.Table:
    """As CANDIDATE: copies, pieces of one source, chains of near prints, samples of the snapshot before."""
    rng = np.random.default_rng(7)
    rows = np.arange(count)
    of = np.where(rng.random(count) < 0.3, rng.integers(0, count, count), rows)
    prints = mixed(of.astype(np.uint64))
    for _ in range(5):  # a few bits further from another one, which may be further from a third
        chosen = np.flatnonzero(rng.random(count) < 0.1)
        bit = np.uint64(1) << rng.integers(0, 64, len(chosen)).astype(np.uint64)
        prints[chosen] = prints[rng.integers(0, count, len(chosen))] ^ bit
    given = rng.random(count) < 0.2
    given[:90:3], given[1:90:3], given[2:90:3] = True, True, False
    prints[:90:3], prints[1:90:3] = prints[2:90:3] ^ np.uint64(1), prints[2:90:3] ^ np.uint64(6)
    names = np.where(rows < 90, rows // 3, rows % 50)  # of given ones
    scenes = np.where(given, names + 50 * ((rows >= 90) & (rng.random(count) < 0.5)), rows + 100)
    columns = {
        "a": mixed(of.astype(np.uint64) + np.uint64(1 << 40)), "b": of.astype(np.uint64),
        "piece": np.where(given, 0, rng.integers(0, 2, count)).astype(np.uint64),
        "fingerprint": np.where(rng.random(count) < 0.1, 0, prints).astype(np.uint64), "given": given,
        "row": np.where(given, -1, rows), "num_bytes": np.where(given, 0, rng.integers(0, 9, count)),
        # Of a source that is there already several pieces may be, all of one name.
        "name": [f"given/{names[i]}" if given[i] else f"new/{i}" for i in rows.tolist()],
        "suffix": [""] * count, "draw": mixed(scenes.astype(np.uint64)),
    }  # fmt: skip
    return pa.table([pa.array(columns[f.name], f.type) for f in CANDIDATE], schema=CANDIDATE)


class Dropped:
    """Takes down what is dropped, as pipelines.shards.decisions.Decisions would."""

    def __init__(self) -> None:
        self.told: set[tuple[int, str, str, str]] = set()

    def drop(self, rows: Values, status: str, reasons: list[str], details: list[str]) -> None:
        self.told |= {
            (row, status, reason, detail)
            for row, reason, detail in zip(rows.tolist(), reasons, details, strict=True)
        }


def found(table: pa.Table, folder: Path, how: Any, **settings: Any) -> tuple[pa.Table, Any, Any]:
    """Clusters in their order, what is dropped, and what belongs together."""
    dropped: Any = Dropped()
    duplicates = Duplicates(folder, table.num_rows, dropped, drop=True, exchange=how, **settings)
    for start in range(0, table.num_rows, 100):
        duplicates.add(table.slice(start, 100))
    clusters = pa.concat_tables(duplicates.find())
    return clusters, dropped.told, np.unique(np.concatenate(duplicates.links), axis=0).tolist()


@pytest.mark.parametrize("distance", [0, 5])
def test_all_nodes_find_the_duplicates_that_one_finds_and_in_one_order(tmp_path: Path, distance: int) -> None:
    table = planted(3000)
    ours = found(table, tmp_path / "a", OnDisk, distance=distance)
    backwards = table.take(pa.array(np.arange(table.num_rows)[::-1]))
    theirs = found(backwards, tmp_path / "b", Shuffle, distance=distance)
    assert theirs[0].equals(ours[0])
    assert theirs[1:] == ours[1:]
    reasons = set(ours[0]["reason"].to_pylist())
    assert reasons == ({"same-bytes", "near-duplicate"} if distance else {"same-bytes"})
    assert len(ours[1]) > 300


def counted(part: pa.Table) -> pa.Table:
    numbers, counts = np.unique(part["a"].to_numpy(), return_counts=True)
    return pa.table({"a": numbers, "count": counts})


def rows(count: int, different: int) -> pa.Table:
    places = np.arange(count)
    return pa.table([pa.array(mixed((places % different).astype(np.uint64))), pa.array(places)], ROWS)


def test_rows_of_one_number_are_never_cut_apart_however_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray.data.DataContext.get_current(), "target_max_block_size", 2000)
    shuffle = Shuffle(tmp_path, ROWS, 6000)
    shuffle.add(table := rows(6000, 3), table["a"].to_numpy())
    for last in (False, True):
        told = pa.concat_tables(shuffle.map(counted, last=last))
        assert told.num_rows == 3
        assert told["count"].to_pylist() == [2000] * 3


def test_a_worker_that_dies_costs_nothing(tmp_path: Path) -> None:
    mark = tmp_path / "died"

    def dies_once(part: pa.Table) -> pa.Table:
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return counted(part)

    shuffle = Shuffle(tmp_path, ROWS, 1000)
    shuffle.add(table := rows(1000, 400), table["a"].to_numpy())
    told = pa.concat_tables(shuffle.map(dies_once))
    assert mark.exists()
    assert sorted(told["a"].to_pylist()) == np.unique(table["a"].to_numpy()).tolist()
    assert sum(told["count"].to_pylist()) == 1000


@pytest.mark.parametrize("how", [OnDisk, Shuffle])
def test_no_rows_are_no_rows(tmp_path: Path, how: Any) -> None:
    empty = how(tmp_path, ROWS, 0)
    empty.add(ROWS.empty_table(), np.empty(0, np.uint64))
    assert list(empty.near("a", 3)) == []
    assert sum(part.num_rows for part in empty.map(counted)) == 0
