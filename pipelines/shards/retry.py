"""A storage that is asked again when it fails in passing."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final, TypeVar

from pipelines.answers import Unavailable, http_code, no_bucket, refusal, unanswered
from pipelines.retry import Retry
from pipelines.shards.storage import Storage

T = TypeVar("T")
COMPARED_BYTES: Final = 16 * 2**20  # at a time


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
