"""One policy for everything that may fail in passing: which errors, how often, how long, and when no more."""

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol, TypeVar

from pipelines.shards.storage import Storage

T = TypeVar("T")
TRANSIENT_STATUS: Final = (408, 425, 429, 500, 502, 503, 504)
TRANSIENT_CODES: Final = (  # of S3, whatever the status
    "SlowDown", "RequestTimeout", "InternalError", "ServiceUnavailable", "ConditionalRequestConflict",
    "OperationAborted", "BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch",
)  # fmt: skip
TRANSIENT_NAMES: Final = (  # of drivers' errors that have no status: nobody answered, or not to the end
    "HTTPClientError", "EndpointConnectionError", "ConnectTimeoutError", "ReadTimeoutError",
    "ResponseParserError", "IncompleteRead", "ClientConnectionError", "ClientPayloadError", "TransportError",
    "ServiceRequestError", "ServiceResponseError", "IncompleteReadError", "ProtocolError", "FSTimeoutError",
    "ChecksumError", "FlexibleChecksumError",
)  # fmt: skip
LONGEST_WAIT_S: Final = 120.0  # that a Retry-After may ask for
COMPARED_BYTES: Final = 16 * 2**20  # at a time
log = logging.getLogger("rayloom")


class Clock(Protocol):
    """Time, so that a simulation can have its own."""

    def sleep(self, seconds: float, /) -> None:
        """Wait."""


class Budget:
    """How many retries one run (process) may spend: a share of its operations, and some to begin with.

    A store that answers one request in two would otherwise be asked twice as often by everybody.
    """

    def __init__(self, share: float = 0.1, floor: int = 200) -> None:
        self.share, self.floor = share, floor
        self.operations = self.retries = 0
        self._lock = threading.Lock()

    def count(self) -> None:
        with self._lock:
            self.operations += 1

    def take(self) -> bool:
        """Whether one more retry is allowed."""
        with self._lock:
            self.retries += 1
            return self.retries <= self.floor + self.share * self.operations


BUDGET: Final = Budget()


@dataclass(frozen=True, kw_only=True)
class Retry:
    """Full jitter: before try i + 1 wait a random time up to `first_s` * 2**i, and up to `cap_s`.

    By default an operation is given up after about 90 s of waiting. Brooker, "Exponential Backoff and
    Jitter", AWS Architecture Blog, 2015.
    """

    attempts: int = 12
    first_s: float = 0.5
    cap_s: float = 30.0
    clock: Clock = time
    rng: random.Random = field(default_factory=random.Random)  # ours alone: no seed of a job is touched
    budget: Budget = BUDGET

    def __call__(
        self, what: str, operation: Callable[[], T], *, failed: Callable[[], None] | None = None
    ) -> T:
        """The result of `operation`, which must be safe to repeat. `failed` hears of passing failures."""
        self.budget.count()
        for attempt in range(self.attempts):
            try:
                return operation()
            except Exception as e:
                if not is_transient(e):
                    raise
                if failed:
                    failed()
                last = attempt + 1 == self.attempts
                if last or not self.budget.take():
                    spent = f"{attempt + 1} tries" if last else "the run's budget of retries"
                    raise Unavailable(f"{what}: gave up after {spent}: {type(e).__name__}: {e}") from e
                wait = self.rng.uniform(0, min(self.cap_s, self.first_s * 2**attempt))
                wait = max(wait, min(retry_after(e), LONGEST_WAIT_S))
                log.warning("%s: %s: %s; again in %.1f s", what, type(e).__name__, str(e)[:200], wait)
                self.clock.sleep(wait)
        raise AssertionError("unreachable: attempts must be 1 or more")


class Unavailable(OSError):
    """The storage kept failing; what is finished is kept, and the same job goes on from there."""


class RetryingStorage(Storage):
    """Another storage, asked again when it fails in passing.

    Every operation is safe to repeat. A `create` whose answer got lost finds its own object there: it is
    compared with what was to be written, and then counts as created.
    """

    def __init__(self, inner: Storage, retry: Retry | None = None) -> None:
        self.inner, self.retry, self.url = inner, retry or Retry(), inner.url

    def create(self, key: str, content: bytes | Path) -> bool:
        unknown = []
        made = self.retry(
            f"put {key}", lambda: self.inner.create(key, content), failed=lambda: unknown.append(True)
        )
        return made or (bool(unknown) and self._holds(key, content))

    def _holds(self, key: str, content: bytes | Path) -> bool:
        size = content.stat().st_size if isinstance(content, Path) else len(content)
        if self.size(key) != size:
            return False
        if isinstance(content, bytes):
            return self.get(key) == content
        with content.open("rb") as file:
            return all(
                self.get(key, start, COMPARED_BYTES) == file.read(COMPARED_BYTES)
                for start in range(0, size, COMPARED_BYTES)
            )

    def replace(self, key: str, content: bytes | Path) -> None:
        self.retry(f"replace {key}", lambda: self.inner.replace(key, content))

    def get(self, key: str, offset: int = 0, size: int | None = None) -> bytes:
        return self.retry(f"get {key}", lambda: self.inner.get(key, offset, size))

    def size(self, key: str) -> int | None:
        return self.retry(f"stat {key}", lambda: self.inner.size(key))

    def list(self, prefix: str) -> Iterator[str]:
        yield from self.retry(f"list {prefix}", lambda: list(self.inner.list(prefix)))

    def delete(self, key: str) -> None:
        self.retry(f"delete {key}", lambda: self.inner.delete(key))

    def modified(self, key: str) -> float | None:
        return self.retry(f"stat {key}", lambda: self.inner.modified(key))

    def begin_upload(self, key: str, content: bytes) -> None:
        self.retry(f"upload {key}", lambda: self.inner.begin_upload(key, content))

    def uploads(self) -> Iterator[tuple[str, float]]:
        yield from self.retry("list uploads", lambda: list(self.inner.uploads()))

    def abort(self, upload: str) -> None:
        self.retry("abort upload", lambda: self.inner.abort(upload))

    def staging(self) -> AbstractContextManager[Path]:  # type: ignore[override]  # a property of the decorator
        return self.inner.staging()


def is_transient(error: BaseException) -> bool:
    """Whether the same operation may well succeed the next time."""
    status, code = http_code(error)
    if code in TRANSIENT_CODES or status in TRANSIENT_STATUS:
        return True
    if status is not None or isinstance(error, FileNotFoundError | FileExistsError | PermissionError):
        return False
    return any(isinstance(e, ConnectionError | TimeoutError) or _is_named(e) for e in _causes(error))


def _is_named(error: BaseException) -> bool:
    return not {c.__name__ for c in type(error).__mro__}.isdisjoint(TRANSIENT_NAMES)


def http_code(error: BaseException) -> tuple[int | None, str]:
    """Status and code word of the answer that lies behind an error; (None, "") when none came whole."""
    for e in _causes(error):
        response = getattr(e, "response", None)
        if isinstance(response, dict):  # botocore
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            return status, str(response.get("Error", {}).get("Code", ""))
        if _is_named(e):  # aiohttp gives a broken answer the code 400
            return None, ""
        for name in ("status", "status_code", "code"):  # aiohttp, Azure, Google
            if isinstance(value := getattr(e, name, None), int) and 400 <= value < 600:
                return value, str(getattr(e, "error_code", None) or "")
    return None, ""


def retry_after(error: BaseException) -> float:
    """Seconds that the store asked us to wait, or 0."""
    for e in _causes(error):
        response = getattr(e, "response", None)
        headers = getattr(e, "headers", None) or getattr(response, "headers", None)
        if isinstance(response, dict):
            headers = response.get("ResponseMetadata", {}).get("HTTPHeaders")
        for name, value in dict(headers or {}).items():
            if str(name).lower() == "retry-after" and str(value).strip().isdigit():
                return float(value)
    return 0.0


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    for _ in range(8):
        if seen is None:
            return
        yield seen
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
