"""One retry policy: what is tried again, how long is waited, and when it is given up."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.answers import Unavailable, http_code, is_transient
from pipelines.retry import LONGEST_WAIT_S, Budget, Retry, retry_after
from pipelines.shards.retry import RetryingStorage
from pipelines.shards.storage import LocalStorage

NOON = 1_777_636_800.0


class Slept:
    """A clock that only writes down, and says noon of the first of May 2026."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    def time(self) -> float:
        return NOON

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)


class Answer(OSError):
    def __init__(self, status: int, **headers: str) -> None:
        super().__init__(f"HTTP {status}")
        self.status, self.headers = status, {k.replace("_", "-"): v for k, v in headers.items()}


def failing(times: int, error: Exception) -> Callable[[], str]:
    left = iter(range(times))

    def operation() -> str:
        if next(left, None) is not None:
            raise error
        return "done"

    return operation


def policy(**changes: Any) -> tuple[Retry, Slept]:
    clock = Slept()
    return Retry(clock=clock, rng=random.Random(0), budget=Budget(), **changes), clock


def test_waits_are_drawn_from_all_of_a_window_that_doubles_up_to_the_cap() -> None:
    waits: list[list[float]] = [[] for _ in range(6)]
    for seed in range(400):
        clock = Slept()
        retry = Retry(clock=clock, rng=random.Random(seed), budget=Budget(), first_s=1, cap_s=8, attempts=7)
        assert retry("x", failing(6, Answer(503))) == "done"
        for i, wait in enumerate(clock.waits):
            waits[i].append(wait)
    for i, window in enumerate((1, 2, 4, 8, 8, 8)):
        assert 0 <= min(waits[i]) < 0.05 * window
        assert 0.95 * window < max(waits[i]) <= window
        assert abs(sum(waits[i]) / 400 - window / 2) < 0.1 * window


def test_what_the_store_asks_for_is_honoured_within_reason() -> None:
    retry, clock = policy()
    assert retry("x", failing(1, Answer(503, Retry_After="17"))) == "done"
    assert clock.waits == [17.0]
    retry, clock = policy()
    retry("x", failing(1, Answer(429, retry_after="99999")))
    assert clock.waits == [LONGEST_WAIT_S]


@pytest.mark.parametrize(
    ("asked", "waited"),
    [
        ("Fri, 01 May 2026 12:00:17 GMT", 17.0),
        ("Friday, 01-May-26 12:00:17 GMT", 17.0),  # as HTTP was once written, and must still be read
        ("Fri May  1 12:00:17 2026", 17.0),
        ("Fri, 01 May 2026 14:00:00 GMT", LONGEST_WAIT_S),
    ],
)
def test_a_date_to_come_back_at_is_a_wait_by_our_clock(asked: str, waited: float) -> None:
    retry, clock = policy()
    assert retry("x", failing(1, Answer(503, Retry_After=asked))) == "done"
    assert clock.waits == [waited]


@pytest.mark.parametrize(
    "asked", ["Fri, 01 May 2026 11:00:00 GMT", "soon", "-5", "Fri, 99 May 2026 99:00:00 GMT", ""]
)
def test_a_date_that_is_past_or_none_asks_for_nothing(asked: str) -> None:
    assert retry_after(Answer(503, Retry_After=asked), NOON) == 0.0


def test_it_is_given_up_after_so_many_tries_and_names_the_cause() -> None:
    retry, clock = policy(attempts=4)
    with pytest.raises(Unavailable, match=r"get k: gave up after 4 tries: Answer: HTTP 500") as caught:
        retry("get k", failing(99, Answer(500)))
    assert len(clock.waits) == 3
    assert isinstance(caught.value.__cause__, Answer)


def test_a_run_has_one_budget_of_retries() -> None:
    budget = Budget(share=0.1, floor=5)
    retry = Retry(clock=Slept(), rng=random.Random(0), budget=budget, attempts=100)
    with pytest.raises(Unavailable, match="budget"):
        retry("x", failing(99, Answer(500)))
    assert budget.retries == 6
    for _ in range(100):  # operations that go well earn it back
        retry("x", failing(0, Answer(500)))
    assert retry("x", failing(3, Answer(500))) == "done"


def test_a_retry_that_was_refused_is_not_counted_as_one() -> None:
    budget = Budget(share=0.5, floor=2)
    assert [budget.take() for _ in range(50)] == [True, True] + [False] * 48
    budget.count()
    budget.count()
    assert (budget.take(), budget.take()) == (True, False)


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError("k"),
        PermissionError("k"),
        ValueError("k"),
        Answer(403),
        Answer(404),
        Answer(412),
        KeyError(1),
    ],
)
def test_what_will_not_change_is_not_tried_again(error: Exception) -> None:
    retry, clock = policy()
    with pytest.raises(type(error)):
        retry("x", failing(1, error))
    assert clock.waits == []


def botocore_error(code: str, status: int, headers: dict[str, str] | None = None) -> Exception:
    from botocore.exceptions import ClientError

    meta = {"HTTPStatusCode": status, "HTTPHeaders": headers or {}}
    cause = ClientError({"Error": {"Code": code}, "ResponseMetadata": meta}, "PutObject")  # type: ignore[typeddict-item]
    error = OSError(5, "as s3fs translates it")
    error.__cause__ = cause
    return error


def test_errors_of_drivers_are_read_through_their_causes() -> None:
    import aiohttp
    from aiohttp.http_exceptions import ContentLengthError
    from botocore.exceptions import (
        ConnectTimeoutError,
        EndpointConnectionError,
        FlexibleChecksumError,
        ReadTimeoutError,
    )

    cut = aiohttp.ClientPayloadError("cut")
    cut.__cause__ = ContentLengthError("cut")  # which has the code 400

    for transient in (
        botocore_error("SlowDown", 503), botocore_error("RequestTimeout", 400),
        botocore_error("XAmzContentSHA256Mismatch", 400), botocore_error("ConditionalRequestConflict", 409),
        EndpointConnectionError(endpoint_url="x"), ConnectTimeoutError(endpoint_url="x"),
        ReadTimeoutError(endpoint_url="x"), aiohttp.ClientPayloadError("cut"), ConnectionResetError(104, "x"),
        TimeoutError(), cut, FlexibleChecksumError(error_msg="x"),
    ):  # fmt: skip
        assert is_transient(transient), transient
    for final in (
        botocore_error("AccessDenied", 403),
        botocore_error("PreconditionFailed", 412),
        OSError(28, "full"),
    ):
        assert not is_transient(final), final
    assert http_code(botocore_error("SlowDown", 503)) == (503, "SlowDown")
    assert retry_after(botocore_error("SlowDown", 503, {"retry-after": "7"}), NOON) == 7


class Forgetful(LocalStorage):
    """Writes, and its answer gets lost `times` times; `other` got there first, unnoticed."""

    def __init__(self, root: Path, times: int, other: bytes | None = None) -> None:
        super().__init__(root)
        self.times, self.other = times, other

    def create(self, key: str, content: bytes | Path) -> bool:
        made = super().create(key, content if self.other is None else self.other)
        if self.times:
            self.times -= 1
            raise ConnectionResetError(104, "no answer")
        return made


@pytest.mark.parametrize("as_file", [False, True])
@pytest.mark.parametrize(
    ("other", "ours"), [(None, True), (b"somebody else's", False), (b"our own OBJECT", False)]
)
def test_a_put_whose_answer_got_lost_knows_its_own(
    tmp_path: Path, other: bytes | None, ours: bool, as_file: bool
) -> None:
    content: bytes | Path = b"our own object"
    if as_file:
        content = tmp_path / "file"
        content.write_bytes(b"our own object")
    retry, _ = policy()
    storage = RetryingStorage(Forgetful(tmp_path / "data", 2, other), retry)
    assert storage.put("key", content) is ours
    assert storage.get("key") == (other or b"our own object")


def test_an_object_that_was_there_is_not_ours_however_equal(tmp_path: Path) -> None:
    retry, _ = policy()
    storage = RetryingStorage(LocalStorage(tmp_path), retry)
    assert storage.put("key", b"x")
    assert not storage.put("key", b"x")


def test_a_listing_is_read_whole_or_again(tmp_path: Path) -> None:
    class Breaking(LocalStorage):
        broken = True

        def list(self, prefix: str) -> Iterator[str]:
            for i, key in enumerate(super().list(prefix)):
                if i == 1 and self.broken:
                    self.broken = False
                    raise ConnectionResetError
                yield key

    inner = Breaking(tmp_path)
    for name in "abc":
        inner.put(f"x/{name}", b"")
    retry, _ = policy()
    assert list(RetryingStorage(inner, retry).list("x/")) == ["x/a", "x/b", "x/c"]
