"""Object stores (s3, gs, az) and memory, through fsspec. Credentials come from the environment only."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import fsspec

from modalities.base import BadSample
from pipelines.answers import Refused, refusal, unsettled
from pipelines.sources.stores import Node, clean_name, told_name

_PACKAGES = {"gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs", "abfss": "adlfs", "s3": "s3fs"}
_VERSIONS = ("ETag", "etag", "mtime", "LastModified", "last_modified", "updated", "created")


class ObjectStore:
    """One fsspec file system. Listings are never cached: a source is listed to see what is there now."""

    has_folders = True

    def __init__(self, scheme: str, *, anonymous: bool = False) -> None:
        self.scheme = scheme
        options: dict[str, Any] = {} if scheme == "memory" else {"use_listings_cache": False}
        if anonymous and scheme != "memory":
            options |= {"token": "anon"} if scheme in ("gs", "gcs") else {"anon": True}
        try:
            self.fs = fsspec.filesystem(scheme, **options)
        except ImportError as error:
            raise ValueError(f"{scheme}:// needs the package {_PACKAGES.get(scheme, scheme)}") from error
        except ValueError as error:
            raise unsettled(f"{scheme}://", error) from error

    def stat(self, uri: str) -> Node | None:
        path = self._path(uri)
        try:
            with _as_oserror(uri):
                return self._node(self.fs.info(path))
        except FileNotFoundError:
            return None

    def scan(self, folder: str) -> list[Node]:
        path = self._path(folder)
        with _as_oserror(folder):
            found = self.fs.ls(path, detail=True)
        # a store may hold an empty object that stands for the folder itself; it is no file in it
        return [self._node(info) for info in found if info["name"].strip("/") != path.strip("/")]

    def names(self, folder: str) -> None:
        """A listing says all at once."""

    def read(self, uri: str, offset: int, size: int, version: str = "") -> bytes:
        path = self._path(uri)
        # Listed as empty, and an empty object has no range to ask for.
        ranged = {} if offset == 0 and size == 1 else {"start": offset, "end": offset + size}
        with _as_oserror(uri):
            if version and self.scheme == "s3":
                data, came = self._read_s3(path, **ranged)
            else:
                data = bytes(self.fs.cat_file(path, **ranged))
                came = self._node(self.fs.info(path)).version if version else ""
        if came and came != version and _is_time(came) == _is_time(version):
            raise BadSample("changed", f"{uri} was written to after it was listed; ingest it again")
        return data

    def _read_s3(self, path: str, start: int = 0, end: int | None = None) -> tuple[bytes, str]:
        """The bytes and the etag of one answer: no second request, and no time between the two."""
        from fsspec.asyn import sync
        from s3fs.core import _error_wrapper

        bucket, key, _ = self.fs.split_path(path)
        ranged = {} if end is None else {"Range": f"bytes={start}-{end - 1}"}

        async def answered() -> tuple[bytes, str]:
            answer = await self.fs._call_s3("get_object", Bucket=bucket, Key=key, **ranged)
            async with answer["Body"] as body:
                return await body.read(), answer.get("ETag", "").strip('"')

        async def tried() -> tuple[bytes, str]:
            found: tuple[bytes, str] = await _error_wrapper(answered, retries=self.fs.retries)  # cut bodies
            return found

        found: tuple[bytes, str] = sync(self.fs.loop, tried)
        return found

    def _path(self, uri: str) -> str:
        path: str = self.fs._strip_protocol(uri)
        return path

    def _node(self, info: dict[str, Any]) -> Node:
        path = info["name"].rstrip("/")
        is_folder = info["type"] == "directory"
        return Node(
            name=clean_name(name := path.rpartition("/")[2]),
            uri=f"{self.scheme}://{path}",
            is_folder=is_folder,
            size=0 if is_folder else int(info["size"] or 0),
            version="" if is_folder else _version(info),
            told=told_name(name),
        )


def _version(info: dict[str, Any]) -> str:
    """The etag, or where there is none a time, in seconds: drivers give it in several forms."""
    found = next((info[key] for key in _VERSIONS if info.get(key)), "")
    return str(found.timestamp() if isinstance(found, datetime) else found).strip('"')


def _is_time(version: str) -> bool:
    """A listing without etags gives times, and then the etag of one answer is nothing to compare with."""
    return re.fullmatch(r"\d+\.\d+", version) is not None


@contextmanager
def _as_oserror(uri: str) -> Iterator[None]:
    """Each driver has errors of its own (botocore's are no OSError); here they all mean: cannot be read."""
    try:
        yield
    except Exception as error:
        if told := refusal(uri, "read", error):
            raise Refused(f"{told}; a public one is read with source.anonymous: true") from error
        if isinstance(error, OSError):
            raise
        raise OSError(f"{uri}: {type(error).__name__}: {error}") from error
