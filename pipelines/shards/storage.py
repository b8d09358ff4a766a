"""Where datasets live: five operations, the first of which either creates an object whole or does nothing."""

import os
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import fsspec

SCHEMES = ("file", "memory", "s3", "gs", "gcs", "az", "abfs", "abfss")


class Storage(ABC):
    """Objects under one URL, by relative key with forward slashes.

    A key is written once: `put` returns False and leaves the object alone when there is one already. No
    reader ever sees a part of an object.
    """

    url: str

    @abstractmethod
    def put(self, key: str, content: bytes | Path) -> bool:
        """Create `key` with all of `content`, or return False because it exists."""

    @abstractmethod
    def get(self, key: str, offset: int = 0, size: int | None = None) -> bytes:
        """The bytes, or `size` of them from `offset`. FileNotFoundError names the key."""

    @abstractmethod
    def size(self, key: str) -> int | None:
        """Bytes, or None when there is no such object."""

    @abstractmethod
    def list(self, prefix: str) -> Iterator[str]:
        """Keys that start with `prefix` (a folder, with its slash), sorted."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove `key`; nothing happens when it is not there."""

    @abstractmethod
    @contextmanager
    def staging(self) -> Iterator[Path]:
        """A folder for files to be `put`; gone afterwards."""


def open_storage(url: str) -> Storage:
    """A local folder, or an object store named by an fsspec URL (s3://bucket/folder)."""
    scheme = urlsplit(url).scheme if "://" in url else "file"
    if "::" in url or scheme not in SCHEMES:
        raise ValueError(f"cannot keep a dataset at {url!r}: want a folder or one of {', '.join(SCHEMES)}://")
    if scheme == "file":
        return LocalStorage(Path(url.removeprefix("file://")))
    return ObjectStorage(url)


class LocalStorage(Storage):
    """A folder. A hard link to a finished file is put-if-absent on every POSIX file system."""

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().absolute()
        self.url = str(self.root)

    def put(self, key: str, content: bytes | Path) -> bool:
        target = self.root / key
        if target.exists():
            return False
        target.parent.mkdir(parents=True, exist_ok=True)
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
            try:
                os.link(staged, target)
            except FileExistsError:
                return False
        _fsync(target.parent)
        return True

    def get(self, key: str, offset: int = 0, size: int | None = None) -> bytes:
        with open(self.root / key, "rb") as file:
            file.seek(offset)
            return file.read(-1 if size is None else size)

    def size(self, key: str) -> int | None:
        try:
            return (self.root / key).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return None

    def list(self, prefix: str) -> Iterator[str]:
        for folder, folders, files in os.walk(self.root / prefix):
            folders.sort()
            for name in sorted(files):
                yield str(Path(folder, name).relative_to(self.root))

    def delete(self, key: str) -> None:
        (self.root / key).unlink(missing_ok=True)

    @contextmanager
    def staging(self) -> Iterator[Path]:
        parent = self.root / ".staging"  # on the same file system, so that a link is enough
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=parent) as folder:
            yield Path(folder)


class ObjectStorage(Storage):
    """An object store through fsspec; `mode="create"` is its conditional write."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self.files: Any
        self.files, self.root = fsspec.url_to_fs(self.url, use_listings_cache=False)

    def put(self, key: str, content: bytes | Path) -> bool:
        path = f"{self.root}/{key}"
        if self.files.exists(path):
            return False
        try:
            if isinstance(content, Path):
                self.files.put_file(str(content), path, mode="create")
            else:
                self.files.pipe_file(path, content, mode="create")
        except FileExistsError:
            return False
        return True

    def get(self, key: str, offset: int = 0, size: int | None = None) -> bytes:
        end = None if size is None else offset + size
        content: bytes = self.files.cat_file(f"{self.root}/{key}", start=offset or None, end=end)
        return content

    def size(self, key: str) -> int | None:
        try:
            return int(self.files.info(f"{self.root}/{key}")["size"])
        except FileNotFoundError:
            return None

    def list(self, prefix: str) -> Iterator[str]:
        try:
            found = self.files.find(f"{self.root}/{prefix}")
        except FileNotFoundError:
            return
        yield from sorted(path.removeprefix(f"{self.root}/") for path in found)

    def delete(self, key: str) -> None:
        if self.files.exists(path := f"{self.root}/{key}"):
            self.files.rm_file(path)

    @contextmanager
    def staging(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="rayloom-") as folder:
            yield Path(folder)


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
