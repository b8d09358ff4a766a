"""Small Parquet files as bytes, the way every part of a dataset stores its tables."""

from io import BytesIO

import pyarrow as pa
import pyarrow.parquet as pq


def to_parquet(table: pa.Table) -> bytes:
    """Zstandard-compressed; the same bytes for the same table and library."""
    pq.write_table(table, out := BytesIO(), compression="zstd")
    return out.getvalue()


def from_parquet(content: bytes, columns: list[str] | None = None) -> pa.Table:
    """The whole table, or some columns.

    Not `pq.read_table`: it scans with threads that outlive the call, and one of them holding a Python file
    brings the interpreter down when it exits.
    """
    return pq.ParquetFile(pa.BufferReader(content)).read(columns=columns)
