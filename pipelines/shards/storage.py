"""Where datasets live: a few operations; the first either creates an object whole or does nothing."""

import errno
import io
import logging
import os
import shutil
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeVar
from urllib.parse import urlsplit

from pipelines.disk import told_when_full
from pipelines.seal import Corrupt
from pipelines.sources.stores import local_path

log = logging.getLogger("rayloom")
SCHEMES = ("file", "memory", "s3", "gs", "gcs", "az", "abfs", "abfss")
STAGING = ".staging"  # of a local dataset: what is being written; no key is ever below it
CHUNK_BYTES = 8 * 2**20  # of an object store at a time
CACHED_BYTES = 2**20  # of a disk
EARLY_BYTES = 8 * 2**20  # of a shard that is being written, after which the disk is told to begin
NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)  # what file systems without hard links answer
T = TypeVar("T")


class Storage(ABC):
    """Objects under one URL, by relative key with forward slashes.

    A key is written once: `put` returns False and leaves the object alone when there is one already. No
    reader ever sees a part of an object.
    """

    url: str

    def put(self, key: str, content: bytes | Path) -> bool:
        """Create `key` with all of `content`, or return False because it exists."""
        return self.size(key) is None and self.create(key, content)

    @abstractmethod
    def create(self, key: str, content: bytes | Path) -> bool:
        """As `put`, by the store's own conditional write and nothing else."""

    @abstractmethod
    def replace(self, key: str, content: bytes | Path) -> None:
        """Put `content` at `key`, whatever was there; only what was damaged is replaced."""

    @abstractmethod
    def get(self, key: str, offset: int = 0, size: int | None = None) -> bytes:
        """The bytes, or `size` of them from `offset`. FileNotFoundError names the key."""

    def chunks(self, key: str, size: int) -> Iterator[memoryview]:
        """An object of `size` bytes piece by piece; each piece is valid until the next is asked for."""
        for start in range(0, size, CHUNK_BYTES):
            yield memoryview(self.get(key, start, min(CHUNK_BYTES, size - start)))

    @abstractmethod
    def size(self, key: str) -> int | None:
        """Bytes, or None when there is no such object."""

    @abstractmethod
    def list(self, prefix: str) -> Iterator[str]:
        """Keys that start with `prefix` (a folder, with its slash, or nothing), sorted."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove `key`; nothing happens when it is not there."""

    @abstractmethod
    def modified(self, key: str) -> float | None:
        """When `key` was written, in seconds of the store's own clock; None when there is no such object."""

    @abstractmethod
    def begin_upload(self, key: str, content: bytes) -> bool:
        """Start to write `key` and never finish, as a builder that is killed does: whether `uploads` has it.

        For trials.
        """

    @abstractmethod
    def uploads(self) -> Iterator[tuple[str, float]]:
        """Unfinished uploads: what `abort` takes, and when they began by the store's clock."""

    @abstractmethod
    def abort(self, upload: str) -> None:
        """Drop what is left of an unfinished upload."""

    @abstractmethod
    @contextmanager
    def staging(self) -> Iterator[Path]:
        """A folder for files to be `put`; gone afterwards."""


def open_storage(url: str) -> Storage:
    """A local folder, or an object store named by an fsspec URL (s3://bucket/folder), with retries."""
    scheme = urlsplit(url).scheme if "://" in url else "file"
    if "::" in url or scheme not in SCHEMES:
        raise ValueError(f"cannot keep a dataset at {url!r}: want a folder or one of {', '.join(SCHEMES)}://")
    if scheme == "file":
        return LocalStorage(local_path(url))
    from pipelines.shards.objects import ObjectStorage
    from pipelines.shards.retry import RetryingStorage

    return RetryingStorage(ObjectStorage(url))


def read_verified(storage: Storage, key: str, parse: Callable[[bytes], T]) -> T:
    """What `parse` makes of an object. Bytes that do not verify are read once more.

    A bit that flipped on the way is right the second time; a damaged object is not, and raises Corrupt with
    the key.
    """
    try:
        return parse(storage.get(key))
    except Corrupt:
        pass
    try:
        return parse(storage.get(key))
    except Corrupt as e:
        raise Corrupt(f"{key} in {storage.url} is damaged: {e}") from e


def put_right(storage: Storage, key: str, content: bytes | Path) -> None:
    """Put what belongs at `key`; what a run that died left there, and was damaged since, is replaced."""
    if not storage.put(key, content):
        content = content.read_bytes() if isinstance(content, Path) else content
        try:
            if storage.get(key) == content:
                return
            log.warning("%s in %s was damaged; it is written anew", key, storage.url)
        except FileNotFoundError:  # who left it has removed it since
            pass
        storage.replace(key, content)


class LocalStorage(Storage):
    """A folder. A hard link to a finished file is put-if-absent on every POSIX file system."""

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().absolute()
        self.url = str(self.root)

    def create(self, key: str, content: bytes | Path) -> bool:
        target = self.root / key
        target.parent.mkdir(parents=True, exist_ok=True)
        with self._staged(content) as staged:
            try:
                os.link(staged, target)
            except FileExistsError:
                return False
            except OSError as e:
                if e.errno not in NO_LINKS:
                    raise
                why = "no hard links here, by which one writer of several wins; put the output elsewhere"
                raise OSError(e.errno, why, str(target)) from e
        _fsync(target.parent)
        return True

    def replace(self, key: str, content: bytes | Path) -> None:
        target = self.root / key
        target.parent.mkdir(parents=True, exist_ok=True)
        with self._staged(content) as staged:
            os.replace(staged, target)
        _fsync(target.parent)

    @contextmanager
    def _staged(self, content: bytes | Path) -> Iterator[Path]:
        with self.staging() as folder:
            if isinstance(content, Path) and content.is_relative_to(self.root):
                staged = content
            else:
                staged = folder / "object"
                if isinstance(content, Path):
                    shutil.copyfile(content, staged)
                else:
                    staged.write_bytes(content)
            _fsync(staged)
            yield staged

    def get(self, key: str, offset: int = 0, size: int | None = None) -> bytes:
        with open(self.root / key, "rb") as file:
            file.seek(offset)
            return file.read(-1 if size is None else size)

    def chunks(self, key: str, size: int) -> Iterator[memoryview]:
        buffer = memoryview(bytearray(CACHED_BYTES))  # one, which stays in the processor's cache
        with open(self.root / key, "rb", buffering=0) as file:
            while count := file.readinto(buffer):
                yield buffer[:count]

    def size(self, key: str) -> int | None:
        try:
            return (self.root / key).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return None

    def list(self, prefix: str) -> Iterator[str]:
        found = []
        for folder, folders, files in os.walk(self.root / prefix):
            folders[:] = [name for name in folders if name != STAGING]
            found += [str(Path(folder, name).relative_to(self.root)) for name in files]
        yield from sorted(found)

    def delete(self, key: str) -> None:
        (self.root / key).unlink(missing_ok=True)

    def modified(self, key: str) -> float | None:
        try:
            return (self.root / key).stat().st_mtime
        except (FileNotFoundError, NotADirectoryError):
            return None

    def begin_upload(self, key: str, content: bytes) -> bool:
        parent = self.root / STAGING
        parent.mkdir(parents=True, exist_ok=True)
        Path(tempfile.mkdtemp(dir=parent), "object").write_bytes(content)
        return True

    def uploads(self) -> Iterator[tuple[str, float]]:
        parent = self.root / STAGING
        for path in sorted(parent.iterdir()) if parent.is_dir() else ():
            newest = max((p.stat().st_mtime for p in path.glob("*")), default=path.stat().st_mtime)
            yield path.name, newest

    def abort(self, upload: str) -> None:
        shutil.rmtree(self.root / STAGING / Path(upload).name, ignore_errors=True)

    @contextmanager
    def staging(self) -> Iterator[Path]:
        parent = self.root / STAGING  # on the same file system, so that a link is enough
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=parent) as folder, told_when_full(self.root, "the output"):
            yield Path(folder)


class EarlyWriter(io.BufferedWriter):
    """A file that will be synced. The disk begins before its end, and has little left to do then."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path, "wb"))
        self._told = self._size = 0

    def write(self, content: Any, /) -> int:
        """As of any file."""
        count = super().write(content)
        self._size += count
        if self._size - self._told >= EARLY_BYTES and hasattr(os, "posix_fadvise"):  # macOS lacks it
            with suppress(OSError):  # a hint, which costs nobody a shard
                # What is dirty is not dropped by this, but begun to be written, on Linux.
                os.posix_fadvise(self.fileno(), self._told, self._size - self._told, os.POSIX_FADV_DONTNEED)
            self._told = self._size
        return count


def staged_file(path: Path) -> BinaryIO:
    """A new file in a staging folder. What goes elsewhere from there is not worth a disk's time."""
    return EarlyWriter(path) if path.parent.parent.name == STAGING else path.open("wb")


def store_time(storage: Storage) -> float:
    """What the store's own clock says: ages are measured by it, never by this machine's."""
    key = f"runs/clock/{os.getpid()}-{time.monotonic_ns()}"
    storage.create(key, b"")
    try:
        now = storage.modified(key)
    finally:
        storage.delete(key)
    assert now is not None
    return now


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
