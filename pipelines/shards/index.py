"""One row a sample beside each shard: where its files lie, and what is known without opening them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipelines.jsontext import dumps, loads
from pipelines.parquet import from_parquet, to_parquet
from pipelines.shards.tar import Member

_FILE = pa.struct(
    [("name", pa.string()), ("offset", pa.int64()), ("size", pa.int64()), ("crc32c", pa.uint32())]
)
SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("files", pa.list_(_FILE)),
        ("meta", pa.string()),  # JSON: every modality has its own fields
        ("label", pa.string()),
        ("caption", pa.string()),
        ("group", pa.string()),
        ("quality", pa.map_(pa.string(), pa.float64())),
        ("fingerprint", pa.uint64()),
        ("source", pa.string()),
        ("content", pa.string()),  # BLAKE3 of the source object, so that a change is noticed
        ("arrays", pa.string()),  # BLAKE3 of what the sample decodes to, where duplicates are told by that
    ]
)


@dataclass(frozen=True, kw_only=True)
class Row:
    """What the index says of one sample. `files` maps extensions to places in the shard."""

    key: str
    files: Mapping[str, Member]
    meta: Mapping[str, Any]
    label: str | None
    caption: str | None
    group: str
    quality: Mapping[str, float]
    fingerprint: int | None
    source: str
    content: str
    arrays: str | None = None


def write_index(rows: Iterable[Row]) -> bytes:
    """Rows as Parquet, in their order."""
    columns: dict[str, list[Any]] = {name: [] for name in SCHEMA.names}
    for row in rows:
        files = [
            {"name": ext, "offset": m.offset, "size": m.size, "crc32c": m.crc32c}
            for ext, m in row.files.items()
        ]
        values = {
            **vars(row),
            "files": files,
            "meta": dumps(row.meta),
            "quality": sorted(row.quality.items()),
        }
        for name, column in columns.items():
            column.append(values[name])
    return to_parquet(pa.table(columns, schema=SCHEMA))


def read_index(content: bytes, columns: list[str] | None = None) -> pa.Table:
    """The table, or some of its columns."""
    return from_parquet(content, columns)


def rows_of(table: pa.Table) -> list[Row]:
    """Every row as an object."""
    rows = []
    for values in table.to_pylist():
        key = values["key"]
        files = {
            f["name"]: Member(f"{key}.{f['name']}", f["offset"], f["size"], f["crc32c"])
            for f in values["files"]
        }
        rows.append(
            Row(
                **{
                    **values,
                    "files": files,
                    "meta": loads(values["meta"]),
                    "quality": dict(values["quality"]),
                }
            )
        )
    return rows
