"""fsspec's clients of object stores, for sources and datasets: no retries of their own, no cached lists."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from errno import ENOENT
from functools import cache, partial
from os import strerror
from typing import Any

import fsspec

from pipelines.answers import TRANSIENT_STATUS, unsettled

TIMEOUT_S = 30.0
GOOGLE, AZURE = ("gs", "gcs"), ("az", "abfs", "abfss")
_PACKAGES = {"gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs", "abfss": "adlfs", "s3": "s3fs"}


class Garbled(ConnectionError):
    """An answer that makes no sense; the next one may."""


class Passing(Exception):
    """An answer of Google's that may well be another the next time; gcsfs drops the headers of such."""

    status: int
    headers: dict[str, str]


def driver(url: str, **options: Any) -> tuple[Any, str]:
    """The client that reads and writes `url`, and the path it has there."""
    scheme = url.partition("://")[0]
    for name in ("azure.identity", "gcsfs"):  # they log pages, and then raise the same
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        files, path = fsspec.url_to_fs(url, use_listings_cache=False, **_options(scheme), **options)
        _ask_once(scheme, files)
    except ImportError as e:
        raise ValueError(f"{scheme}:// needs the package {_PACKAGES.get(scheme, scheme)}") from e
    except Exception as e:
        raise unsettled(url, e) from e
    return files, path


def _ask_once(scheme: str, files: Any) -> None:
    """The one policy is retry.py's. What it switches off here has no public switch, but for s3fs."""
    from fsspec.asyn import sync

    if scheme == "s3":
        files.retries = 1
        files.connect()  # finds mistakes in the settings
    elif scheme in GOOGLE:
        files._request = partial(_google, type(files)._request.__wrapped__, files)
        sync(files.loop, files._set_session)._retry_connection = False
    elif scheme in AZURE:
        files.service_client._config.retry_policy.total_retries = 0
        transport = files.service_client._pipeline._transport
        patience = transport.connection_config
        patience.timeout = patience.read_timeout = TIMEOUT_S  # adlfs tells only some requests of its options
        sync(files.loop, transport.open)
        transport.session._retry_connection = False


async def _google(request: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """A request. gcsfs has one error for tokens that are refused and those that nobody was there to give."""
    from gcsfs.retry import HttpError
    from google.auth.exceptions import RefreshError, TransportError

    try:
        return await request(*args, **options)
    except HttpError as e:
        why = e.__cause__
        if isinstance(why, RefreshError) and (why.retryable or isinstance(why.__cause__, TransportError)):
            raise ConnectionError(f"no token: {why}") from why
        raise


def read_blob(files: Any, path: str, start: int = 0, end: int | None = None) -> tuple[bytes, str]:
    """The bytes from `start` to `end` and the etag, of one answer of Azure's to one request.

    The public `download_blob` asks again for a body that was cut, for each 4 MiB above 32, and where a blob
    is empty. What it calls does not; it has no public name.
    """
    from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
    from azure.storage.blob._shared.response_handlers import process_storage_error
    from fsspec.asyn import sync

    container, name, _ = files.split_path(path)
    ranged = f"bytes={start}-{'' if end is None else end - 1}" if start or end is not None else None

    async def answered() -> tuple[bytes, str]:
        async with files.service_client.get_blob_client(container, name) as blob:
            try:
                answer = await blob._client.blob.download(
                    range=ranged,
                    cls=lambda came, *_: came.http_response,
                )
            except HttpResponseError as e:
                process_storage_error(e)  # of the kinds that are known from elsewhere
            came = answer.headers.get("Content-Range", "nothing of a range")
            if ranged and not came.startswith(f"bytes {start}-"):
                await answer.close()  # else its connection is taken for good
                raise Garbled(f"{path}: asked for {ranged}, and the answer says {came}")
            return await answer.read(), answer.headers.get("ETag", "").strip('"')

    try:
        found: tuple[bytes, str] = sync(files.loop, answered)
    except ResourceNotFoundError as e:
        raise FileNotFoundError(ENOENT, strerror(ENOENT), path) from e
    return found


async def _raise_passing(response: Any) -> None:
    if response.status in TRANSIENT_STATUS:
        error = Passing(f"{response.status} {response.reason}")
        error.status, error.headers = response.status, dict(response.headers)
        raise error


@contextmanager
def understood(what: str) -> Iterator[None]:
    """Drivers read times and numbers out of answers that no checksum protects."""
    try:
        yield
    except (ValueError, OverflowError) as e:
        raise Garbled(f"{what}: {type(e).__name__}: {e}") from e


@cache
def _asks_once() -> Any:
    """The HTTP session of aiobotocore, but aiohttp sends nothing again when a connection is lost.

    What the first request wrote the second would find: a conditional write would look as if another had won.
    """
    from aiobotocore.httpsession import AIOHTTPSession

    class AsksOnce(AIOHTTPSession):  # type: ignore[misc]
        async def _get_session(self, proxy_url: Any) -> Any:
            session = await super()._get_session(proxy_url)
            session._retry_connection = False  # there is no public switch
            return session

    return AsksOnce


def _options(scheme: str) -> dict[str, Any]:
    """One try an operation, and none longer than TIMEOUT_S without a byte."""
    if scheme == "s3":
        patience = {"read_timeout": TIMEOUT_S, "connect_timeout": TIMEOUT_S, "http_session_cls": _asks_once()}
        return {"config_kwargs": {**patience, "retries": {"total_max_attempts": 1}}}
    if scheme in GOOGLE:  # the one of the two is HTTP's, the other that of what is asked by gRPC
        patience = {"requests_timeout": TIMEOUT_S, "retry_timeout": 0.0}
        return {**patience, "session_kwargs": {"raise_for_status": _raise_passing}}
    return {}
