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


class IndexWriter:
    """Takes the rows of an index one by one, column by column: a shard has thousands."""

    def __init__(self) -> None:
        self._columns: dict[str, list[Any]] = {name: [] for name in SCHEMA.names if name != "files"}
        self._files: tuple[list[str], list[int], list[int], list[int]] = ([], [], [], [])
        self._ends = [0]

    def __len__(self) -> int:
        return len(self._ends) - 1

    def add(self, files: Mapping[str, Member], values: Mapping[str, Any]) -> None:
        """Places of a sample by extension; its other columns, meta as text and quality as sorted pairs."""
        names, offsets, sizes, sums = self._files
        for ext, member in files.items():
            names.append(ext)
            offsets.append(member.offset)
            sizes.append(member.size)
            sums.append(member.crc32c)
        self._ends.append(len(names))
        for name, column in self._columns.items():
            column.append(values[name])

    def finish(self) -> bytes:
        """The rows as Parquet, in their order."""
        columns = [pa.array(column, field.type) for column, field in zip(self._files, _FILE, strict=True)]
        places = pa.StructArray.from_arrays(columns, fields=list(_FILE))
        files = pa.ListArray.from_arrays(pa.array(self._ends, pa.int32()), places)
        arrays = [files if f.name == "files" else pa.array(self._columns[f.name], f.type) for f in SCHEMA]
        return to_parquet(pa.table(arrays, schema=SCHEMA))


def write_index(rows: Iterable[Row]) -> bytes:
    """Rows as Parquet, in their order."""
    index = IndexWriter()
    for row in rows:
        told = {"meta": dumps(row.meta), "quality": sorted(row.quality.items())}
        index.add(row.files, {**vars(row), **told})
    return index.finish()


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
