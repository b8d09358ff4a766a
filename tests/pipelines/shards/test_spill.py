"""Rows that go to buckets on disk, and come back bucket by bucket."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipelines.shards import spill as spills
from pipelines.shards.spill import Spill

ROW = pa.schema([("row", pa.int64())])


@pytest.mark.parametrize("held_bytes", [0, 100, 2**20])
def test_buckets_come_back_in_the_order_of_adding_and_leave_the_disk_when_drained(
    held_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spills, "HELD_BYTES", held_bytes)
    folder = tmp_path / "spill"
    spill = Spill(folder, ROW, 4, bucket_bytes=0)
    rows = np.arange(60)
    for part in np.split(rows, 10):
        spill.add(pa.table([pa.array(part)], schema=ROW), part % 3)  # the last bucket stays empty
    wanted = [rows[rows % 3 == bucket].tolist() for bucket in range(3)] + [[]]
    for _ in range(2):
        assert [bucket["row"].to_pylist() for bucket in spill] == wanted
    left = []
    for bucket, want in zip(spill.drain(), wanted, strict=True):
        assert bucket["row"].to_pylist() == want
        left.append(len([*folder.iterdir()]))
    assert left == ([0, 0, 0, 0] if held_bytes > 1000 else [2, 1, 0, 0])
