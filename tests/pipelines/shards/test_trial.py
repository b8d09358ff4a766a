"""The trial of a storage must be able to fail."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.shards import trial
from pipelines.shards.storage import LocalStorage
from pipelines.shards.trial import try_storage


class Blind(LocalStorage):
    """Tells of no unfinished upload."""

    def uploads(self) -> Iterator[tuple[str, float]]:
        yield from ()


class Stubborn(LocalStorage):
    """Drops none."""

    def abort(self, upload: str) -> None:
        """Nothing."""


@pytest.mark.parametrize(
    ("kind", "seen"), [(LocalStorage, ""), (Blind, "unfinished uploads lacks it"), (Stubborn, "still listed")]
)
def test_an_upload_that_is_not_seen_or_not_dropped_is_a_promise_broken(
    kind: type[LocalStorage], seen: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "OBJECTS", 2)
    broken = [finding for finding in try_storage(kind(tmp_path), large=False) if not finding.kept]
    if not seen:
        assert broken == []
        return
    [finding] = broken
    assert finding.vital
    assert finding.promise == "an upload that never ended is never visible"
    assert seen in finding.seen
