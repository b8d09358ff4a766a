"""One policy for everything that may fail in passing: which errors, how often, how long, and when no more."""

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final, Protocol, TypeVar

from pipelines.answers import causes, http_code, is_transient, no_bucket, refusal, unanswered
from pipelines.shards.storage import Storage

T = TypeVar("T")
LONGEST_WAIT_S: Final = 120.0  # that a Retry-After may ask for
COMPARED_BYTES: Final = 16 * 2**20  # at a time
log = logging.getLogger("rayloom")


class Clock(Protocol):
    """Time, so that a simulation can have its own."""

    def sleep(self, seconds: float, /) -> None:
        """Wait."""

    def time(self) -> float:
        """Seconds since 1970."""


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
                wait = max(wait, min(retry_after(e, self.clock.time()), LONGEST_WAIT_S))
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
        made = self._ask(
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
        self._ask(f"replace {key}", lambda: self.inner.replace(key, content))

    def get(self, key: str, offset: int = 0, size: int | None = None) -> bytes:
        return self._ask(f"get {key}", lambda: self.inner.get(key, offset, size), writes=False)

    def size(self, key: str) -> int | None:
        return self._ask(f"stat {key}", lambda: self.inner.size(key))

    def list(self, prefix: str) -> Iterator[str]:
        yield from self._ask(f"list {prefix}", lambda: list(self.inner.list(prefix)))

    def delete(self, key: str) -> None:
        self._ask(f"delete {key}", lambda: self.inner.delete(key), writes=False)

    def modified(self, key: str) -> float | None:
        return self._ask(f"stat {key}", lambda: self.inner.modified(key))

    def begin_upload(self, key: str, content: bytes) -> bool:
        return self._ask(f"upload {key}", lambda: self.inner.begin_upload(key, content))

    def uploads(self) -> Iterator[tuple[str, float]]:
        yield from self._ask("list uploads", lambda: list(self.inner.uploads()))

    def abort(self, upload: str) -> None:
        self._ask("abort upload", lambda: self.inner.abort(upload), writes=False)

    def _ask(
        self, what: str, operation: Callable[[], T], *, failed: Callable[[], None] | None = None,
        writes: bool = True,
    ) -> T:  # fmt: skip
        """By the policy; what nobody can use is told in words of ours, with the URL."""
        try:
            return self.retry(what, operation, failed=failed)
        except Unavailable as e:
            raise Unavailable(f"{self.url}: {e}{unanswered(self.url, e)}") from e
        except Exception as e:
            if writes and (http_code(e)[0] == 404 or (isinstance(e, FileNotFoundError) and not e.filename)):
                raise no_bucket(self.url) from e  # a store has no folders that could be missing
            if told := refusal(self.url, what, e):
                raise told from e
            raise

    def staging(self) -> AbstractContextManager[Path]:  # type: ignore[override]  # a property of the decorator
        return self.inner.staging()


def retry_after(error: BaseException, now: float) -> float:
    """Seconds that the store asked us to wait, as a number or as a date (RFC 9110, 10.2.3), or 0."""
    for e in causes(error):
        response = getattr(e, "response", None)
        headers = getattr(e, "headers", None) or getattr(response, "headers", None)
        if isinstance(response, dict):
            headers = response.get("ResponseMetadata", {}).get("HTTPHeaders")
        for name, value in dict(headers or {}).items():
            if str(name).lower() == "retry-after":
                return _seconds(str(value).strip(), now)
    return 0.0


def _seconds(text: str, now: float) -> float:
    if text.isdecimal():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return 0.0
    return max(0.0, (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now)
