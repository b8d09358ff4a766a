"""Bytes of samples, verified: mapped from a local shard, or read by ranges until the shard is cached."""

import mmap
import os
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import crc32c

from pipelines.loading.cache import ShardCache
from pipelines.loading.catalog import Page
from pipelines.shards.dataset import Corrupt
from pipelines.shards.manifest import Shard
from pipelines.shards.storage import LocalStorage, Storage

Contents = Mapping[str, memoryview]  # extension -> bytes, read-only

PREFETCH_BYTES = 2**29
LARGE = 2**20  # bytes; letting go of the GIL and taking it again costs more than the sum of a smaller file
COPIERS = 2  # threads that copy shards into the cache


class Reader:
    """Reads samples of one dataset. `counts` says how: mapped, ranged, healed; and copied, in bytes.

    Shards of a local dataset are mapped. Those of an object store are copied to `cache` in the background,
    within `prefetch_bytes`; until a shard is there its samples are read by ranges, so nobody waits for a
    whole shard. Without `cache` every sample is one ranged read. What fails its checksum is read again from
    the store once: a copy may be bad, a transfer may be.
    """

    def __init__(
        self,
        storage: Storage,
        *,
        cache: ShardCache | None = None,
        prefetch_bytes: int = PREFETCH_BYTES,
        limit: int = 64,
    ) -> None:
        self.storage, self.cache, self.prefetch_bytes, self.limit = storage, cache, prefetch_bytes, limit
        self.local = storage.root if isinstance(storage, LocalStorage) else None
        self.counts: Counter[str] = Counter()
        self._maps: OrderedDict[str, memoryview] = OrderedDict()
        self._lock = threading.Lock()
        self._copiers: ThreadPoolExecutor | None = None
        self._copying: list[Future[Any]] = []

    def files(self, page: Page, row: int) -> Contents:
        """The members of one sample. Corrupt names the shard, the member, and what to do."""
        members = page.members(row)
        content, base = self._content(page.shard, members)
        found = _verified(content, base, members)
        if found is None and self.local is None:
            if self.cache:
                self.cache.discard(page.shard)
                with self._lock:
                    self._maps.pop(page.shard.digest, None)
            content, base = self._range(page.shard, members)
            found = _verified(content, base, members)
            self.counts["healed"] += found is not None
        if found is None:
            raise Corrupt(
                f"sample {page.key(row)} in {page.shard.key} of {self.storage.url} is damaged (crc32c "
                "differs from the index); run rayloom check, then rayloom repair"
            )
        return found

    def files_or_error(self, page: Page, row: int) -> Contents | Corrupt:
        """What `files` gives, or the error that it raises."""
        try:
            return self.files(page, row)
        except Corrupt as error:
            return error

    def _content(self, shard: Shard, members: Sequence[tuple[str, int, int, int]]) -> tuple[memoryview, int]:
        """Bytes that hold the members, and the offset that they begin at."""
        if (whole := self.map(shard)) is not None:
            self.counts["mapped"] += 1
            return whole, 0
        return self._range(shard, members)

    def _range(self, shard: Shard, members: Sequence[tuple[str, int, int, int]]) -> tuple[memoryview, int]:
        start = min(offset for _, offset, _, _ in members)
        end = max(offset + size for _, offset, size, _ in members)
        self.counts["ranged"] += 1
        return memoryview(self.storage.get(shard.key, start, end - start)), start

    def map(self, shard: Shard) -> memoryview | None:
        """The whole shard, if it lies on a local disk."""
        with self._lock:
            if (held := self._maps.get(shard.digest)) is not None:
                self._maps.move_to_end(shard.digest)
                return held
            path = self.local / shard.key if self.local else self.cache.find(shard) if self.cache else None
            if path is None:
                return None
            mapped = memoryview(_mapped(path, shard))
            self._maps[shard.digest] = mapped
            while len(self._maps) > self.limit:  # arrays that still look at a map keep it alive
                self._maps.popitem(last=False)
            return mapped

    def prefetch(self, shards: Sequence[Shard]) -> None:
        """Have the first of `shards`, up to the byte budget, at hand soon; what still waits is dropped."""
        wanted: list[Shard] = []
        total = 0
        for shard in shards:
            if (total := total + shard.size) > self.prefetch_bytes and wanted:
                break
            wanted.append(shard)
        if self.local:
            for shard in wanted:
                _read_ahead(self.local / shard.key)
        elif self.cache:
            for copying in self._copying:
                copying.cancel()
            self._copying = [self.ahead(self._copy, shard) for shard in wanted]

    def ahead(self, work: Callable[[Any], Any], what: Any) -> Future[Any]:
        """Do something in the background; whoever needs it sooner does it himself, and sees its errors."""
        if self._copiers is None:
            self._copiers = ThreadPoolExecutor(COPIERS, thread_name_prefix="cache")
        return self._copiers.submit(work, what)

    def _copy(self, shard: Shard) -> None:
        assert self.cache is not None
        if self.cache.find(shard) is None and self.cache.fetch(self.storage, shard):
            self.counts["copied"] += shard.size

    def close(self) -> None:
        """Stop copying; maps go with the arrays that look at them."""
        for copying in self._copying:
            copying.cancel()
        if self._copiers:
            self._copiers.shutdown(wait=True, cancel_futures=True)
        self._copiers = None
        self._maps.clear()


def _verified(
    content: memoryview, base: int, members: Sequence[tuple[str, int, int, int]]
) -> dict[str, memoryview] | None:
    found = {}
    for extension, offset, size, checksum in members:
        part = content[offset - base : offset - base + size]
        if len(part) != size or crc32c.crc32c(part, 0, size > LARGE) != checksum:
            return None
        found[extension] = part
    return found


def _mapped(path: Path, shard: Shard) -> mmap.mmap:
    """Refuses a file of another length: touching a page behind the end would kill the process."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size != shard.size:
            raise Corrupt(
                f"{path} has {size:,} bytes, want {shard.size:,}; run rayloom check, then rayloom repair"
            )
        return mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)


def _read_ahead(path: Path) -> None:
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return  # said when it is read
    try:
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_WILLNEED)
    finally:
        os.close(handle)
