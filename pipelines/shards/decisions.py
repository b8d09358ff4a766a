"""What is decided of rows of a survey by looking at others: kept on disk, read back along with the rows."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.shards.spill import ROWS, Spill

KNOWN = "known"  # a status: the snapshot before has it, and nothing is to be done
NO_SPLIT = -1
_SCHEMA = pa.schema(
    [
        ("row", pa.int64()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("split", pa.int8()),
        ("rekey", pa.bool_()),
    ]
)


@dataclass(frozen=True)
class Verdict:
    """Of consecutive rows: which are dropped, and as what; which get a key of their own; which split."""

    rows: NDArray[np.int64]  # places of dropped rows, ascending
    status: list[str]
    reason: list[str]
    detail: list[str]
    rekey: NDArray[np.bool_]
    split: NDArray[np.int8]  # NO_SPLIT where nothing was decided


class Decisions:
    """Of `rows` rows. What is decided first about a row holds."""

    def __init__(self, folder: Path, rows: int) -> None:
        self._spill = Spill(folder, _SCHEMA, rows // ROWS + 1)

    def drop(self, rows: NDArray[np.int64], status: str, reasons: list[str], details: list[str]) -> None:
        """Leave rows out, with a reason code and words for each."""
        count = len(rows)
        self._add(
            rows, pa.array([status] * count), pa.array(reasons), pa.array(details), NO_SPLIT, rekey=False
        )

    def rekey(self, rows: NDArray[np.int64]) -> None:
        """Give rows a key that nobody else wants."""
        nothing = pa.nulls(len(rows), pa.string())
        self._add(rows, nothing, nothing, nothing, NO_SPLIT, rekey=True)

    def split(self, rows: NDArray[np.int64], codes: NDArray[np.int8]) -> None:
        """Settle the split."""
        nothing = pa.nulls(len(rows), pa.string())
        self._add(rows, nothing, nothing, nothing, codes, rekey=False)

    def _add(
        self, rows: NDArray[np.int64], status: Any, reason: Any, detail: Any, split: Any, *, rekey: bool
    ) -> None:
        split = np.broadcast_to(np.asarray(split, np.int8), rows.shape)
        columns = [
            pa.array(rows), status, reason, detail, pa.array(split), pa.array(np.full(len(rows), rekey))
        ]  # fmt: skip
        self._spill.add(
            pa.table([c.cast(f.type) for c, f in zip(columns, _SCHEMA, strict=True)], schema=_SCHEMA),
            rows // ROWS,
        )

    def along(self, counts: Iterator[int]) -> Iterator[Verdict]:
        """Verdicts on the next `counts` rows, one part after the other."""
        blocks = enumerate(self._spill)
        held, upto, start = _SCHEMA.empty_table(), 0, 0
        for count in counts:
            end = start + count
            while upto < end and (block := next(blocks, None)) is not None:
                held, upto = pa.concat_tables([held, block[1]]), (block[0] + 1) * ROWS
            places = held["row"].to_numpy()
            mine = (places >= start) & (places < end)
            yield _verdict(held.filter(pa.array(mine)), start, count)
            held = held.filter(pa.array(places >= end))
            start = end


def _verdict(table: pa.Table, start: int, count: int) -> Verdict:
    places = table["row"].to_numpy() - start
    rekey, split = np.zeros(count, bool), np.full(count, NO_SPLIT, np.int8)
    rekey[places[table["rekey"].to_numpy()]] = True
    codes = table["split"].to_numpy()
    split[places[codes != NO_SPLIT]] = codes[codes != NO_SPLIT]
    drops = np.flatnonzero(table["status"].is_valid().to_numpy())
    rows, first = np.unique(places[drops], return_index=True)
    chosen = table.take(pa.array(drops[first]))
    status, reason, detail = (chosen[name].to_pylist() for name in ("status", "reason", "detail"))
    return Verdict(rows, status, reason, detail, rekey, split)
