"""fsspec's clients of object stores, for sources and datasets: no retries of their own, no cached lists."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import fsspec

from pipelines.answers import unsettled

TIMEOUT_S = 30.0
_PACKAGES = {"gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs", "abfss": "adlfs", "s3": "s3fs"}


class Garbled(ConnectionError):
    """An answer that makes no sense; the next one may."""


def driver(url: str, **options: Any) -> tuple[Any, str]:
    """The client that reads and writes `url`, and the path it has there."""
    scheme = url.partition("://")[0]
    for name in ("azure.identity", "gcsfs"):  # they log pages, and then raise the same
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        files, path = fsspec.url_to_fs(url, use_listings_cache=False, **_options(scheme), **options)
        if scheme == "s3":
            files.retries = 1  # the one policy is retry.py's
            files.connect()  # finds mistakes in the settings
    except ImportError as e:
        raise ValueError(f"{scheme}:// needs the package {_PACKAGES.get(scheme, scheme)}") from e
    except Exception as e:
        raise unsettled(url, e) from e
    return files, path


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
    if scheme in ("gs", "gcs"):
        return {"requests_timeout": TIMEOUT_S}
    if scheme in ("az", "abfs", "abfss"):
        return {"connection_timeout": TIMEOUT_S, "read_timeout": TIMEOUT_S}
    return {}
