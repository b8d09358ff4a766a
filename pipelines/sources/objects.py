"""Object stores (s3, gs, az) and memory, through fsspec. Credentials come from the environment only."""

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from modalities.base import BadSample
from pipelines.answers import (
    STORE_FAILED,
    Refused,
    Unavailable,
    first_line,
    http_code,
    is_denied,
    no_bucket,
    refusal,
    unanswered,
)
from pipelines.drivers import AZURE, GOOGLE, driver, read_blob, understood
from pipelines.retry import Retry
from pipelines.sources.stores import Mixed, Node, clean_name, told_name

T = TypeVar("T")
Infos = list[dict[str, Any]]  # as drivers tell of objects
_PAGE_SIZE = 1000  # the most that S3 and Google give
_VERSIONS = ("ETag", "etag", "mtime", "LastModified", "last_modified", "updated", "created")


_NAMELESS = "nameless"  # the type of what no folder can be called by
_NO_NAME = ("bad-name", "keys with an empty part, as in a//b, are not read; copy them to others")


class Denied(PermissionError):
    """The store keeps this object from us, and has nothing against who asks."""


class ObjectStore:
    """One fsspec file system. Listings are never cached: a source is listed to see what is there now.

    Every request goes by the one policy of retries. Unavailable and Refused say that the store is no use now;
    OSErrors of other kinds are about the one object.
    """

    has_folders = True

    def __init__(self, scheme: str, *, anonymous: bool = False) -> None:
        self.scheme, self.retry = scheme, Retry()
        options: dict[str, Any] = {}
        if anonymous and scheme != "memory":
            options = {"token": "anon"} if scheme in GOOGLE else {"anon": True}
        self.fs, _ = driver(f"{scheme}://", **options)

    def stat(self, uri: str) -> Node | None:
        path = self._path(uri)
        try:
            return self._told("stat", uri, lambda: self._node(self.fs.info(path)))
        except FileNotFoundError:
            return None
        except Denied:
            with suppress(FileNotFoundError):  # a folder, and it is the listing that is denied
                self.read(uri, 0, 2)  # S3 answers to HEAD without words, also where credentials are too old
            raise

    def scan(self, folder: str) -> Iterator[Node]:
        path = self._path(folder)
        try:
            for infos in self._pages(folder, path):
                for info in infos:
                    if info["type"] == _NAMELESS:
                        yield Node("(no name)", f"{folder.rstrip('/')}//", refusal=_NO_NAME)
                    elif info["name"].strip("/") != path.strip("/"):
                        yield self._node(info)  # an empty object that stands for the folder is no file in it
        except (FileNotFoundError, *STORE_FAILED):
            raise
        except OSError as error:  # nobody knows what is in it
            raise Refused(str(error)) from error

    def _pages(self, folder: str, path: str) -> Iterator[Infos]:
        """One request each, so that one that fails is asked for again, and not all of them."""
        ask, token, found = _PAGES.get(self.scheme), "", False
        while ask:
            infos, token = self._told("list", folder, partial(ask, self.fs, path.rstrip("/"), token))
            found = found or bool(infos)
            yield infos
            if not token:
                break
        if not found and self.scheme != "s3":  # what an empty one means the drivers know
            yield self._told("list", folder, lambda: self.fs.ls(path, detail=True))
        elif not found and "/" in path:
            raise FileNotFoundError(path)

    def names(self, folder: str) -> Iterator[list[str]]:
        raise Mixed  # a listing says all at once

    def read(self, uri: str, offset: int, size: int, version: str = "") -> bytes:
        path = self._path(uri)
        # Listed as empty, and an empty object has no range to ask for.
        ranged = {} if offset == 0 and size <= 1 else {"start": offset, "end": offset + size}

        def answer() -> tuple[bytes, str]:
            if self.scheme in AZURE:
                return read_blob(self.fs, path, **ranged)
            if version and self.scheme == "s3":
                return self._read_s3(path, **ranged)
            data = bytes(self.fs.cat_file(path, **ranged))
            return data, self._node(self.fs.info(path)).version if version else ""

        data, came = self._ask("read", uri, answer)
        if version and came and came != version and _is_time(came) == _is_time(version):
            raise BadSample("changed", f"{uri} was written to after it was listed; ingest it again")
        return data

    def _read_s3(self, path: str, start: int = 0, end: int | None = None) -> tuple[bytes, str]:
        """The bytes and the etag of one answer: no second request, and no time between the two."""
        from fsspec.asyn import sync

        bucket, key, _ = self.fs.split_path(path)
        ranged = {} if end is None else {"Range": f"bytes={start}-{end - 1}"}

        async def answered() -> tuple[bytes, str]:
            answer = await self.fs._call_s3("get_object", Bucket=bucket, Key=key, **ranged)
            async with answer["Body"] as body:
                return await body.read(), answer.get("ETag", "").strip('"')

        found: tuple[bytes, str] = sync(self.fs.loop, answered)
        return found

    def _told(self, what: str, uri: str, ask: Callable[[], T]) -> T:
        """`_ask` for what a store says of objects."""

        def answer() -> T:
            with understood(uri):
                return ask()

        return self._ask(what, uri, answer)

    def _ask(self, what: str, uri: str, operation: Callable[[], T]) -> T:
        """By the policy. Each driver has errors of its own (botocore's are no OSError)."""
        try:
            return self.retry(f"{uri}: {what}", operation)
        except Unavailable as error:
            raise Unavailable(f"{error}{unanswered(uri, error)}") from error
        except Exception as error:
            if isinstance(error, FileNotFoundError) or http_code(error)[0] == 404:
                if self._lacks_bucket(uri):
                    raise no_bucket(uri) from error
                raise FileNotFoundError(first_line(error)) from error
            if told := refusal(uri, what, error):
                kind = Denied if is_denied(error) else Refused
                raise kind(f"{told}; a public one is read with source.anonymous: true") from error
            raise OSError(f"{uri}: {what}: {type(error).__name__}: {first_line(error)}") from error

    def _lacks_bucket(self, uri: str) -> bool:
        """Stores have one answer for both: the object is not there, and neither is the bucket."""
        bucket = self._path(uri).partition("/")[0]
        if self.scheme == "memory":
            return False
        try:
            self.retry(f"{self.scheme}://{bucket}: stat", lambda: self.fs.info(bucket))
        except Unavailable:
            raise
        except Exception as error:
            return isinstance(error, FileNotFoundError) or http_code(error)[0] == 404
        return False

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


def _is_nameless(prefix: str) -> bool:
    return prefix == "/" or prefix.endswith("//")


def _folder(bucket: str, prefix: str) -> dict[str, Any]:
    kind = _NAMELESS if _is_nameless(prefix) else "directory"
    return {"name": f"{bucket}/{prefix.removesuffix('/')}", "type": kind}


def _page_s3(fs: Any, path: str, token: str) -> tuple[Infos, str]:
    bucket, key, _ = fs.split_path(path)
    asked = {"Bucket": bucket, "Prefix": f"{key}/" if key else "", "Delimiter": "/"}
    page = fs.call_s3("list_objects_v2", **asked, **({"ContinuationToken": token} if token else {}))
    infos = [_folder(bucket, one["Prefix"]) for one in page.get("CommonPrefixes", ())]
    for one in page.get("Contents", ()):
        infos.append({**one, "name": f"{bucket}/{one['Key']}", "size": one["Size"], "type": "file"})
    return infos, page["NextContinuationToken"] if page.get("IsTruncated") else ""


def _page_google(fs: Any, path: str, token: str) -> tuple[Infos, str]:
    from fsspec.asyn import sync

    bucket, key, _ = fs.split_path(path)
    asked = {"delimiter": "/", "prefix": f"{key}/" if key else None, "maxResults": _PAGE_SIZE}
    kind = getattr(fs, "_is_bucket_hns_enabled", None)  # of buckets that have folders, also empty ones
    if kind and sync(fs.loop, kind, bucket):
        asked["includeFoldersAsPrefixes"] = "true"
    page = fs.call("GET", "b/{}/o", bucket, json_out=True, **asked, pageToken=token or None)
    infos = [_folder(bucket, one) for one in page.get("prefixes", ())]
    return infos + [fs._process_object(bucket, one) for one in page.get("items", ())], page.get(
        "nextPageToken", ""
    )


def _page_azure(fs: Any, path: str, token: str) -> tuple[Infos, str]:
    from fsspec.asyn import sync

    container, key, _ = fs.split_path(path)

    async def answered() -> tuple[Infos, str]:
        async with fs.service_client.get_container_client(container=container) as client:
            found = client.walk_blobs(
                name_starts_with=f"{key}/" if key else None, include=["metadata"], results_per_page=_PAGE_SIZE
            )
            pages = found.by_page(token or None)
            items = [item async for item in await anext(pages)]
            odd = [_folder(container, item.name) for item in items if _is_nameless(item.name)]
            infos = await fs._details([item for item in items if not _is_nameless(item.name)])
            return infos + odd, pages.continuation_token or ""

    answer: tuple[Infos, str] = sync(fs.loop, answered)
    return answer


_PAGES = {"s3": _page_s3, **dict.fromkeys(GOOGLE, _page_google), **dict.fromkeys(AZURE, _page_azure)}
