"""Small Parquet files as bytes, the way every part of a dataset stores its tables: sealed by a checksum."""

from io import BytesIO
from typing import Any

import blake3
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.seal import Corrupt

SEAL = b"rayloom.blake3"  # a key of the file's metadata; its value is patched in once the file is written
_BLANK = b"0" * 64
_GAP = 2  # bytes between key and value in Thrift's compact form: a field header, a length


def to_parquet(table: pa.Table) -> bytes:
    """Zstandard-compressed; the same bytes for the same table and library."""
    with sealed_writer(out := BytesIO(), table.schema) as writer:
        writer.write_table(table)
    return sealed(out.getvalue())


def sealed_writer(out: Any, schema: pa.Schema) -> pq.ParquetWriter:
    """A writer whose finished bytes `sealed` turns into what `from_parquet` reads."""
    writer = pq.ParquetWriter(out, schema, compression="zstd")
    writer.add_key_value_metadata({SEAL.decode(): _BLANK.decode()})
    return writer


def sealed(content: bytes) -> bytes:
    """The file with the BLAKE3 of its own bytes in its metadata."""
    place = _place(content)
    digest: str = blake3.blake3(content).hexdigest()
    return b"".join((content[:place], digest.encode(), content[place + len(_BLANK) :]))


def from_parquet(content: bytes, columns: list[str] | None = None) -> pa.Table:
    """The whole table, or some columns. Corrupt when the bytes are not what their seal says.

    Not `pq.read_table`: it scans with threads that outlive the call, and one of them holding a Python file
    brings the interpreter down when it exits.
    """
    return parquet_file(content).read(columns=columns)


def parquet_file(content: bytes) -> pq.ParquetFile:
    """The verified file, for reading a part of it."""
    place = _place(content)
    view = memoryview(content)
    hasher = blake3.blake3(view[:place])
    hasher.update(_BLANK)
    hasher.update(view[place + len(_BLANK) :])
    if hasher.hexdigest().encode() != content[place : place + len(_BLANK)]:
        raise Corrupt("a Parquet file whose bytes are not what its seal says")
    return pq.ParquetFile(pa.BufferReader(content))


def _place(content: bytes) -> int:
    found = content.rfind(SEAL)
    place = found + len(SEAL) + _GAP
    if found < 0 or place + len(_BLANK) > len(content):
        raise Corrupt("no sealed Parquet file")
    return place
