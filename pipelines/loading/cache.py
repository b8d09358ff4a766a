"""Whole shards on a local disk, by digest, the least recently used ones given up first."""

import fcntl
import os
from contextlib import suppress
from pathlib import Path

import blake3

from pipelines.shards.dataset import Corrupt
from pipelines.shards.manifest import Shard
from pipelines.shards.storage import Storage

CACHE = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "rayloom", "shards")
CACHE_BYTES = 2**34
PIECE = 2**23  # bytes of one ranged read


class ShardCache:
    """A folder that several processes of one machine may share. It never holds more than `limit` bytes."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit
        folder.mkdir(parents=True, exist_ok=True)

    def find(self, shard: Shard) -> Path | None:
        """The file, marked as used just now, or None."""
        path = self._path(shard)
        try:
            os.utime(path)
        except FileNotFoundError:
            return None
        return path

    def fetch(self, storage: Storage, shard: Shard) -> Path | None:
        """The file, copied if need be; None when it is too large, or another process is copying it."""
        if shard.size > self.limit:
            return None
        part = self._path(shard).with_suffix(".part")
        with part.open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return None
            if found := self.find(shard):
                part.unlink(missing_ok=True)  # the name that `open` has just made
                return found
            file.truncate(0)
            try:
                self._make_room(shard.size)
                self._copy(storage, shard, file.fileno())
                part.rename(self._path(shard))
            except BaseException:
                part.unlink(missing_ok=True)
                raise
        return self._path(shard)

    def discard(self, shard: Shard) -> None:
        """Forget a copy that turned out damaged."""
        self._path(shard).unlink(missing_ok=True)

    def _path(self, shard: Shard) -> Path:
        return self.folder / f"{shard.digest}.tar"

    def _copy(self, storage: Storage, shard: Shard, handle: int) -> None:
        hasher = blake3.blake3()
        for start in range(0, shard.size, PIECE):
            piece = storage.get(shard.key, start, min(PIECE, shard.size - start))
            hasher.update(piece)
            os.write(handle, piece)
        if hasher.hexdigest() != shard.digest:
            raise Corrupt(f"{shard.key} in {storage.url} is not what its name says; run rayloom repair")

    def _make_room(self, size: int) -> None:
        kept = []
        for path in self.folder.glob("*.tar"):
            with suppress(FileNotFoundError):  # another process made room, too
                facts = path.stat()
                kept.append((facts.st_mtime_ns, facts.st_size, path))
        total = sum(entry[1] for entry in kept)
        for _, held, path in sorted(kept):
            if total + size <= self.limit:
                return
            path.unlink(missing_ok=True)  # who has it mapped keeps it until done
            total -= held
