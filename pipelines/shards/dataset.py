"""Reading a dataset by its manifest: rows of the index, files by key, and the proof that all is well."""

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import blake3
import crc32c
import numpy as np
import pyarrow as pa

from modalities.base import Files
from pipelines.seal import Corrupt
from pipelines.shards.index import Row, read_index, rows_of
from pipelines.shards.manifest import Manifest, Shard, load, plan_of
from pipelines.shards.storage import Storage, open_storage, read_verified
from pipelines.shards.tar import Member

__all__ = ["Corrupt", "Dataset"]


class Dataset:
    """One snapshot of a dataset, for reading. Everything that is read is checked against its checksum."""

    def __init__(self, storage: Storage, manifest: Manifest) -> None:
        self.storage, self.manifest = storage, manifest

    @classmethod
    def open(cls, url: str, snapshot: int | None = None) -> "Dataset":
        """The newest snapshot, or the one asked for. FileNotFoundError when there is none."""
        storage = open_storage(url)
        return cls(storage, load(storage, snapshot))

    def index(self, shard: Shard, columns: list[str] | None = None) -> pa.Table:
        """The index beside a shard, verified."""
        return index_of(self.storage, shard, columns)

    def rows(self, shard: Shard) -> list[Row]:
        """What the index says of a shard's samples, in their order."""
        return rows_of(self.index(shard))

    def table(self, columns: list[str]) -> pa.Table:
        """Columns of every shard's index as one table, shards in manifest order."""
        tables = [self.index(shard, columns) for shard in self.manifest.shards]
        empty = pa.table({name: pa.array([], pa.string()) for name in columns})
        return pa.concat_tables(tables) if tables else empty

    def files(self, shard: Shard, row: Row, only: set[str] | None = None) -> Files:
        """A sample's files, read as one range and verified; `only` some of its extensions."""
        members = {ext: m for ext, m in row.files.items() if only is None or ext in only}
        start = min(m.offset for m in members.values())
        end = max(m.offset + m.size for m in members.values())
        return self._verified(shard, list(members.items()), start, end - start)

    def read(self, shard: Shard, member: Member) -> bytes:
        """One file by one ranged read, verified."""
        return self._verified(shard, [("", member)], member.offset, member.size)[""]

    def _verified(
        self, shard: Shard, members: list[tuple[str, Member]], start: int, size: int
    ) -> dict[str, bytes]:
        """Members out of one range; a range that does not verify is read once more."""
        for _ in range(2):
            content = memoryview(self.storage.get(shard.key, start, size))
            found = {ext: content[m.offset - start :][: m.size] for ext, m in members}
            bad = next((m for ext, m in members if not _intact(m, found[ext])), None)
            if bad is None:
                return {ext: bytes(part) for ext, part in found.items()}
        assert bad is not None
        raise Corrupt(
            f"{bad.name} in {shard.key} of {self.storage.url} is damaged "
            f"(crc32c differs from the index); run rayloom check, then rayloom repair"
        )

    def find(self, key: str) -> tuple[Shard, Row]:
        """Where a sample is. LookupError names near keys."""
        for shard in self.manifest.shards:
            table = self.index(shard)
            places = np.flatnonzero(table["key"].to_numpy(zero_copy_only=False) == key)
            if len(places):
                return shard, rows_of(table.slice(int(places[0]), 1))[0]
        from difflib import get_close_matches

        near = get_close_matches(key, self.table(["key"])["key"].to_pylist(), n=3)
        raise LookupError(f"no sample {key!r} in {self.storage.url}; near it: {near}")

    def __iter__(self) -> Iterator[tuple[Shard, Row]]:
        for shard in self.manifest.shards:
            for row in self.rows(shard):
                yield shard, row

    def plans(self) -> list[str]:
        """Names of the plans of every run that this snapshot holds, in order."""
        return [plan_of(run) for run in self.manifest.plans]

    def dropped(self) -> list[dict[str, Any]]:
        """What was quarantined, filtered or a duplicate, with reasons; of a replay, what it left out."""
        from pipelines.shards.replay import left_out

        return [row for table in left_out(self) for row in table.to_pylist()]

    @cached_property
    def class_numbers(self) -> Mapping[str, int]:
        """Label -> class number."""
        return {name: i for i, name in enumerate(self.manifest.classes)}

    def check(self, share: float = 1.0) -> dict[str, Any]:
        """Verify every digest of the newest snapshot, and the bytes of a `share` of its shards."""
        from pipelines.shards.check import find_problems, report

        return report(*find_problems(self.storage, share=share))


def index_of(storage: Storage, shard: Shard, columns: list[str] | None = None) -> pa.Table:
    """The index beside a shard, verified."""

    def verified(content: bytes) -> pa.Table:
        if blake3.blake3(content).hexdigest() != shard.index:
            raise Corrupt("it is not the index the snapshot names; run rayloom repair")
        return read_index(content, columns)

    return read_verified(storage, shard.index_key, verified)


def _intact(member: Member, content: memoryview) -> bool:
    return len(content) == member.size and crc32c.crc32c(content) == member.crc32c
