"""Another try for what lies in quarantine, after a fix of the files, of the machine or of rayloom."""

from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipelines.parquet import from_parquet
from pipelines.shards.dataset import Dataset
from pipelines.shards.known import Known
from pipelines.shards.manifest import Books
from pipelines.shards.storage import Storage, read_verified
from pipelines.sources import Entry, Listing
from pipelines.sources.names import looked_at

REPLAY: Final = "replay-"  # before the name of a survey: what it lists is no longer as earlier runs left it


class _Replayed(Known):
    """A snapshot that has forgotten what it thought of some names, and which entries it has seen."""

    def __init__(self, dataset: Dataset, names: frozenset[str]) -> None:
        super().__init__(dataset)
        self._names = pa.array(sorted(names), pa.string())

    def left_out(self) -> Iterator[pa.Table]:
        for table in super().left_out():
            yield table.filter(pc.invert(pc.is_in(table["name"], self._names)))

    def ids(self) -> Iterator[NDArray[np.int64]]:
        return iter(())


def known_to(dataset: Dataset, replay: frozenset[str] | None) -> Known:
    """What a snapshot holds, but for the names that are replayed."""
    return Known(dataset) if replay is None else _Replayed(dataset, replay)


def only(found: Iterable[Listing], replay: frozenset[str] | None) -> Iterable[Listing]:
    """The entries with these names, or all."""
    return found if replay is None else (entry for entry in looked_at(found) if entry.name in replay)


def names_of(storage: Storage, survey: str) -> set[str]:
    """Every name that a run looked at."""
    names: set[str] = set()
    for key in storage.list(f"runs/{survey}/listing/"):
        listing = read_verified(storage, key, from_parquet)
        names |= {Entry.from_json(text).name for text in listing["entry"].to_pylist()}
    return names


def readmitted(parent: Dataset, survey: str) -> Books:
    """What the books of `parent` hold as quarantined and the run of `survey` counts anew."""
    if not survey.startswith(REPLAY):
        return Books()
    again = names_of(parent.storage, survey)
    count = sum(row["status"] == "quarantined" and row["name"] in again for row in parent.dropped())
    return Books(inputs=count, quarantined=count)
