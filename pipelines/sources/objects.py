"""Object stores (s3, gs, az) and memory, through fsspec. Credentials come from the environment only."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import fsspec

from pipelines.sources.stores import Node, clean_name

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

    def read(self, uri: str, offset: int, size: int) -> bytes:
        path = self._path(uri)
        with _as_oserror(uri):
            if offset == 0 and size == 1:  # listed as empty, and an empty object has no range to ask for
                return bytes(self.fs.cat_file(path))
            return bytes(self.fs.cat_file(path, start=offset, end=offset + size))

    def _path(self, uri: str) -> str:
        path: str = self.fs._strip_protocol(uri)
        return path

    def _node(self, info: dict[str, Any]) -> Node:
        path = info["name"].rstrip("/")
        is_folder = info["type"] == "directory"
        version = next((str(info[key]) for key in _VERSIONS if info.get(key)), "")
        return Node(
            name=clean_name(path.rpartition("/")[2]),
            uri=f"{self.scheme}://{path}",
            is_folder=is_folder,
            size=0 if is_folder else int(info["size"] or 0),
            version="" if is_folder else version.strip('"'),
        )


@contextmanager
def _as_oserror(uri: str) -> Iterator[None]:
    """Each driver has errors of its own (botocore's are no OSError); here they all mean: cannot be read."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise OSError(f"{uri}: {type(error).__name__}: {error}") from error
