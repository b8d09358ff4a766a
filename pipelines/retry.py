"""One policy for everything that may fail in passing: which errors, how often, how long, and when no more."""

import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final, Protocol, TypeVar

from pipelines.answers import Unavailable, causes, first_line, is_transient

T = TypeVar("T")
LONGEST_WAIT_S: Final = 120.0  # that a Retry-After may ask for
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
            allowed = self.retries < self.floor + self.share * self.operations
            self.retries += allowed
            return allowed


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
                    raise Unavailable(
                        f"{what}: gave up after {spent}: {type(e).__name__}: {first_line(e)}"
                    ) from e
                wait = self.rng.uniform(0, min(self.cap_s, self.first_s * 2**attempt))
                wait = max(wait, min(retry_after(e, self.clock.time()), LONGEST_WAIT_S))
                log.warning("%s: %s: %s; again in %.1f s", what, type(e).__name__, str(e)[:200], wait)
                self.clock.sleep(wait)
        raise AssertionError("unreachable: attempts must be 1 or more")


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
