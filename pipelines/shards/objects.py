"""Object stores through fsspec: s3, gs, az, and memory for tests."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from fsspec.implementations.memory import MemoryFileSystem

from pipelines.answers import http_code
from pipelines.disk import TEMPORARY, told_when_full
from pipelines.drivers import Garbled, driver, read_blob, understood
from pipelines.shards.storage import Storage

_TIMES = ("LastModified", "last_modified", "mtime", "updated", "created")
_PART_BYTES = 5 * 2**20  # the smallest that S3 takes


class ObjectStorage(Storage):
    """An object store as fsspec sees it; `mode="create"` is its conditional write. No retries of its own."""

    def __init__(self, url: str) -> None:
        scheme, _, place = url.partition("://")
        self.url = f"{scheme}://{place.rstrip('/')}"
        if not place.strip("/") and scheme != "memory":
            raise ValueError(f"{url} names no bucket: want {scheme}://bucket or {scheme}://bucket/folder")
        self.files: Any
        self.files, self.root = driver(self.url)

    def create(self, key: str, content: bytes | Path) -> bool:
        try:
            self._write(key, content, mode="create")
        except FileExistsError:
            return self.size(key) is None and self._create_in_blocks(key, content)
        except OSError as e:
            if http_code(e)[0] == 412:
                return False
            raise
        return True

    def _create_in_blocks(self, key: str, content: bytes | Path) -> bool:
        """Azure may hold the name of an unfinished upload against a whole write, not against blocks."""
        if not _speaks(self.files, "abfs"):
            return False
        file = self.files.open(f"{self.root}/{key}", "xb")
        try:
            file.write(content.read_bytes() if isinstance(content, Path) else content)
        except BaseException:
            file.closed = True  # else it would be closed, and so committed, with what it has
            raise
        try:
            file.close()
        except FileExistsError:
            return False
        return True

    def replace(self, key: str, content: bytes | Path) -> None:
        self._write(key, content, mode="overwrite")

    def _write(self, key: str, content: bytes | Path, *, mode: str) -> None:
        path = f"{self.root}/{key}"
        if isinstance(content, Path):
            self.files.put_file(str(content), path, mode=mode)
        else:
            self.files.pipe_file(path, content, mode=mode)

    def get(self, key: str, offset: int = 0, size: int | None = None) -> bytes:
        if size == 0:
            return b""
        end = None if size is None else offset + size
        if _speaks(self.files, "abfs"):
            return read_blob(self.files, f"{self.root}/{key}", offset, end)[0]
        content: bytes = self.files.cat_file(f"{self.root}/{key}", start=offset or None, end=end)
        return content

    def size(self, key: str) -> int | None:
        try:
            with understood(key):
                return int(self._told(key)["size"])
        except FileNotFoundError:
            return None

    def list(self, prefix: str) -> Iterator[str]:
        folder = f"{self.root}/{prefix}"
        try:
            with understood(prefix):
                found = sorted(self.files.find(folder))
        except FileNotFoundError:
            return
        if strange := [path for path in found if not path.startswith(folder)]:
            raise Garbled(f"the listing of {folder} names {strange[0]}")
        yield from (path.removeprefix(f"{self.root}/") for path in found)

    def delete(self, key: str) -> None:
        if self.files.exists(path := f"{self.root}/{key}"):
            with suppress(FileNotFoundError):  # another came first
                self.files.rm_file(path)

    def modified(self, key: str) -> float | None:
        try:
            with understood(key):
                info = self._told(key)
        except FileNotFoundError:
            return None
        return _seconds(next(info[name] for name in _TIMES if info.get(name)))

    def _told(self, key: str) -> dict[str, Any]:
        if not _speaks(self.files, "s3"):
            info: dict[str, Any] = self.files.info(f"{self.root}/{key}")
            return info
        bucket, name = self._s3_name(key)  # s3fs would list what is not there, in case it is a folder
        answer = self.files.call_s3("head_object", Bucket=bucket, Key=name)
        return {"size": answer["ContentLength"], "LastModified": answer["LastModified"]}

    def begin_upload(self, key: str, content: bytes) -> bool:
        path = f"{self.root}/{key}"
        if _speaks(self.files, "s3"):
            bucket, name = self._s3_name(key)
            begun = self.files.call_s3("create_multipart_upload", Bucket=bucket, Key=name)
            self.files.call_s3(
                "upload_part", Bucket=bucket, Key=name, UploadId=begun["UploadId"], PartNumber=1, Body=content
            )
            return True
        if isinstance(self.files, MemoryFileSystem):
            return False  # an object there is whole or not at all
        file = self.files.open(path, "wb", block_size=_PART_BYTES)
        file.write(content)
        file.flush()
        file.closed = True  # nobody will finish it, the garbage collector neither
        return False

    def uploads(self) -> Iterator[tuple[str, float]]:
        """On S3. Google's and Azure's expire by themselves, within a week. `key` and number, by lines."""
        if not _speaks(self.files, "s3"):
            return
        bucket, folder = self._s3_name("")
        after: dict[str, str] = {}
        while True:
            page = self.files.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=folder, **after)
            for upload in page.get("Uploads") or ():
                name = upload["Key"].removeprefix(folder)
                yield f"{name}\n{upload['UploadId']}", _seconds(upload["Initiated"])
            if not page.get("IsTruncated"):
                return
            after = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}

    def abort(self, upload: str) -> None:
        name, _, number = upload.rpartition("\n")
        bucket, key = self._s3_name(name)
        with suppress(FileNotFoundError):  # it is gone: a first request whose answer got lost, or another gc
            self.files.call_s3("abort_multipart_upload", Bucket=bucket, Key=key, UploadId=number)

    def _s3_name(self, key: str) -> tuple[str, str]:
        """Bucket and name in it; a dataset may lie at the bucket's root, and names begin with no slash."""
        bucket, _, folder = self.root.partition("/")
        return bucket, f"{folder}/{key}" if folder else key

    @contextmanager
    def staging(self) -> Iterator[Path]:
        with (
            tempfile.TemporaryDirectory(prefix="rayloom-") as folder,
            told_when_full(Path(folder), TEMPORARY),
        ):
            yield Path(folder)


def _speaks(files: Any, protocol: str) -> bool:
    return protocol in (files.protocol if isinstance(files.protocol, tuple) else (files.protocol,))


def _seconds(moment: Any) -> float:
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment)
    return moment.timestamp() if isinstance(moment, datetime) else float(moment)
