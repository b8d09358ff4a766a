"""Sealed records: any byte of them that is not as it was written is noticed."""

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.parquet import from_parquet, to_parquet
from pipelines.seal import Corrupt, seal, unseal

RECORD = {"a": [1, 2.5, None], "b": {"ü": "x"}}
TABLE = pa.table({"key": [f"k{i}" for i in range(50)], "size": list(range(50))})


@pytest.mark.parametrize(
    ("content", "read"), [(seal(RECORD), unseal), (to_parquet(TABLE), from_parquet)], ids=["json", "parquet"]
)
def test_every_changed_missing_or_added_byte_is_noticed(content: bytes, read: Callable[[bytes], Any]) -> None:
    for i in range(len(content)):
        for other in {content[i] ^ 1, content[i] ^ 0x80, 0}:
            if other != content[i]:
                with pytest.raises(Corrupt):
                    read(content[:i] + bytes([other]) + content[i + 1 :])
        with pytest.raises(Corrupt):
            read(content[:i])
    for longer in (content + b" ", b" " + content):
        with pytest.raises(Corrupt):
            read(longer)


def test_what_was_sealed_comes_back() -> None:
    assert unseal(seal(RECORD)) == RECORD
    assert from_parquet(to_parquet(TABLE)).equals(TABLE)
    assert to_parquet(TABLE) == to_parquet(TABLE)


def test_other_readers_read_sealed_parquet() -> None:
    assert pq.read_table(pa.BufferReader(to_parquet(TABLE))).equals(TABLE)


def test_parquet_without_a_seal_is_refused() -> None:
    pq.write_table(TABLE, out := pa.BufferOutputStream())
    with pytest.raises(Corrupt, match="no sealed Parquet"):
        from_parquet(out.getvalue().to_pybytes())
