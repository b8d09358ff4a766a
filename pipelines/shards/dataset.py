"""Reading a dataset by its manifest: rows of the index, files by key, and the proof that all is well."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import cached_property
from typing import Any

import blake3
import crc32c
import numpy as np
import pyarrow as pa

from modalities.base import Files
from pipelines.parquet import from_parquet
from pipelines.shards.index import Row, read_index, rows_of
from pipelines.shards.manifest import Manifest, Shard, load
from pipelines.shards.storage import Storage, open_storage
from pipelines.shards.tar import Member, walk


class Corrupt(RuntimeError):
    """Stored bytes are not what the manifest or the index says they are."""


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
        content = self.storage.get(shard.index_key)
        if blake3.blake3(content).hexdigest() != shard.index:
            raise Corrupt(f"{shard.index_key} in {self.storage.url} is damaged; run rayloom repair")
        return read_index(content, columns)

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
        content = memoryview(self.storage.get(shard.key, start, end - start))
        return {
            ext: self._verified(shard, m, content[m.offset - start :][: m.size]) for ext, m in members.items()
        }

    def read(self, shard: Shard, member: Member) -> bytes:
        """One file by one ranged read, verified."""
        return self._verified(shard, member, self.storage.get(shard.key, member.offset, member.size))

    def _verified(self, shard: Shard, member: Member, content: bytes | memoryview) -> bytes:
        if len(content) != member.size or crc32c.crc32c(content) != member.crc32c:
            raise Corrupt(
                f"{member.name} in {shard.key} of {self.storage.url} is damaged "
                f"(crc32c differs from the index); run rayloom check, then rayloom repair"
            )
        return bytes(content)

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

    def listed(self) -> frozenset[int]:
        """Ids of every source entry that this snapshot and its ancestors have looked at."""
        seen: set[int] = set()
        for run in self.manifest.plans:
            for key in self.storage.list(f"runs/{run.partition('/')[0]}/listing/"):
                seen.update(from_parquet(self.storage.get(key), ["id"])["id"].to_pylist())
        return frozenset(seen)

    def dropped(self) -> list[dict[str, Any]]:
        """What was quarantined, filtered or a duplicate, with reasons."""
        rows: list[dict[str, Any]] = []
        for run in self.manifest.plans:
            for key in self.storage.list(f"quarantine/{run.rpartition('/')[2]}/"):
                rows += from_parquet(self.storage.get(key)).to_pylist()
        return rows

    @cached_property
    def class_numbers(self) -> Mapping[str, int]:
        """Label -> class number."""
        return {name: i for i, name in enumerate(self.manifest.classes)}

    def check(self, share: float = 1.0) -> dict[str, Any]:
        """Verify digests of manifest, index, shards and members; `share` of the shards, evenly chosen."""
        problems: list[str] = []
        seen: set[str] = set()
        step = max(1, round(1 / share)) if share > 0 else len(self.manifest.shards) + 1
        for i, shard in enumerate(self.manifest.shards):
            problems += self._check_shard(shard, seen, deep=i % step == 0)
        books = self.manifest.books
        if not books.closed:
            problems.append(f"the books do not close: {books}")
        if books.written != self.manifest.samples:
            problems.append(f"{books.written} samples written, {self.manifest.samples} in the shard list")
        return {
            "ok": not problems,
            "samples": self.manifest.samples,
            "shards": len(self.manifest.shards),
            "bytes": self.manifest.size,
            "manifest": self.manifest.digest,
            "books": asdict(books),
            "problems": problems,
        }

    def _check_shard(self, shard: Shard, seen: set[str], *, deep: bool) -> list[str]:
        size = self.storage.size(shard.key)
        if size != shard.size:
            return [
                f"{shard.key}: {'missing' if size is None else f'{size:,} bytes'}, want {shard.size:,} bytes"
            ]
        try:
            rows = self.rows(shard)
        except (Corrupt, FileNotFoundError, pa.ArrowException) as e:
            return [f"{shard.index_key}: {e}"]
        problems = [f"{shard.key}: key {row.key} is in the dataset twice" for row in rows if row.key in seen]
        seen.update(row.key for row in rows)
        if len(rows) != shard.samples:
            problems.append(f"{shard.index_key}: {len(rows)} rows, want {shard.samples}")
        return problems + (self._check_bytes(shard, rows) if deep else [])

    def _check_bytes(self, shard: Shard, rows: list[Row]) -> list[str]:
        content = self.storage.get(shard.key)
        problems = []
        if (digest := blake3.blake3(content).hexdigest()) != shard.digest:
            problems.append(f"{shard.key}: its bytes hash to {digest[:16]}...")
        try:
            stored = set(walk(memoryview(content)))
        except ValueError as e:
            return [*problems, f"{shard.key}: {e}"]
        for row in rows:
            for member in row.files.values():
                if (member.name, member.offset, member.size) not in stored:
                    problems.append(f"{shard.key}: {member.name} is not where the index says")
                elif crc32c.crc32c(content[member.offset : member.offset + member.size]) != member.crc32c:
                    problems.append(f"{shard.key}: {member.name} is damaged (sample {row.key})")
        if (count := sum(len(row.files) for row in rows)) != len(stored):
            problems.append(f"{shard.key}: {len(stored)} members, the index has {count}")
        return problems
