"""Which sample goes into which shard: a pure function of what the survey found and the settings.

The survey is read twice, part by part: once for the few bytes of each sample that others depend on, once to
carry the samples to their shards. What does not fit into memory lies in a temporary folder.
"""

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import blake3
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.jsontext import digest
from pipelines.parquet import from_parquet, to_parquet
from pipelines.shards.ahead import CORES, ahead
from pipelines.shards.duplicates import CLUSTERS
from pipelines.shards.exchange import Exchanges, OnDisk
from pipelines.shards.known import Known
from pipelines.shards.marks import (
    MARKED,
    SURVEY,
    make_key,
    marked,
)
from pipelines.shards.quarantine import DROPPED
from pipelines.stages.process import Compare

__all__ = ["CLUSTERS", "DROPPED", "MARKED", "PLAN", "SURVEY", "Plan", "Survey", "make_key", "make_plan"]

PLAN = pa.schema([("key", pa.string()), ("split", pa.string()), *SURVEY])
READERS = 2  # threads that read a survey: a part takes longer to plan than to fetch
UNITS = pa.schema(
    [("samples", pa.int64()), ("num_bytes", pa.int64()), ("split", pa.string()), ("digest", pa.string())]
)


@dataclass(frozen=True)
class Survey:
    """What a survey found, in parts: `read(columns)` gives tables with these of MARKED, `rows` in all.

    The order of the parts and of the rows in them decides nothing.
    """

    rows: int
    read: Callable[[list[str]], Iterator[pa.Table]]

    @classmethod
    def of(cls, table: pa.Table) -> "Survey":
        """A table that is there already, as MARKED."""
        return cls(table.num_rows, lambda columns: iter([table.select(columns)]))


@dataclass
class Plan:
    """A finished plan as files in a temporary folder that is gone with it.

    units/<unit>.parquet: the rows of a shard in the order of their keys, as PLAN; dropped/<part>.parquet: as
    DROPPED; clusters/<part>.parquet: as CLUSTERS.
    """

    settings: Mapping[str, Any]
    classes: list[str] = field(default_factory=list)
    dealt: list[dict[str, Any]] = field(default_factory=list)  # a row a unit, as UNITS
    counts: Counter[str] = field(default_factory=Counter)  # of dropped rows, by status
    parts: dict[str, list[str]] = field(default_factory=dict)  # digests of the files in dropped and clusters

    def __post_init__(self) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="rayloom-plan-")
        self.folder = Path(self._temporary.name)

    @property
    def units(self) -> int:
        return len(self.dealt)

    @property
    def num_samples(self) -> int:
        return sum(unit["samples"] for unit in self.dealt)

    @property
    def num_dropped(self) -> int:
        return sum(self.counts.values())

    @property
    def digest(self) -> str:
        """The same for the same survey and settings, in whatever order and parts the survey came."""
        units = [unit["digest"] for unit in self.dealt]
        return digest([self.settings, self.classes, units, self.parts.get("dropped", [])])

    def add_units(self, units: Iterator[tuple[str, pa.Table]]) -> None:
        """Split and rows, as PLAN, of one unit after the other. Several are compressed at a time."""

        def add(numbered: tuple[int, tuple[str, pa.Table]]) -> dict[str, Any]:
            number, (split, table) = numbered
            num_bytes, digest = pc.sum(table["num_bytes"]).as_py(), self._write("units", number, table)
            return {"samples": table.num_rows, "num_bytes": num_bytes, "split": split, "digest": digest}

        self.dealt += ahead(add, enumerate(units, self.units), CORES)

    def add_part(self, what: str, table: pa.Table) -> None:
        """More of what was dropped, or of the clusters."""
        if table.num_rows:
            done = self.parts.setdefault(what, [])
            done.append(self._write(what, len(done), table))

    def _write(self, what: str, number: int, table: pa.Table) -> str:
        content = to_parquet(table)
        (self.folder / what).mkdir(exist_ok=True)
        (self.folder / what / f"{number:06}.parquet").write_bytes(content)
        name: str = blake3.blake3(content).hexdigest()
        return name

    def files(self, what: str) -> list[Path]:
        """units, dropped or clusters, in order."""
        return sorted((self.folder / what).glob("*.parquet"))

    @property
    def samples(self) -> pa.Table:
        """Every unit's rows at once, with its number in `unit`; for small plans."""
        return self.table("units")

    @property
    def dropped(self) -> pa.Table:
        """Everything that was left out at once; for small plans."""
        return self.table("dropped")

    def table(self, what: str) -> pa.Table:
        """units, dropped or clusters as one table."""
        schema = {"units": PLAN, "dropped": DROPPED, "clusters": CLUSTERS}[what]
        tables = [from_parquet(path.read_bytes()) for path in self.files(what)]
        if what != "units":
            return pa.concat_tables([schema.empty_table(), *tables])
        numbered = [
            t.append_column("unit", pa.array([i] * t.num_rows, pa.int64())) for i, t in enumerate(tables)
        ]
        empty = schema.append(pa.field("unit", pa.int64())).empty_table()
        return pa.concat_tables([empty, *numbered])


def make_plan(
    survey: Survey | pa.Table, *, settings: Mapping[str, Any], patterns: Sequence[str] = (),
    known: Known | None = None, exchange: Exchanges = OnDisk,
) -> Plan:  # fmt: skip
    """Order the survey's samples and deal them to shard units.

    `settings` has seed, dedup (none, exact, content, near) with dedup_distance, split {val, test, by,
    stratify} and shards {max_bytes, max_samples, shuffle}. `known` is the snapshot before: what it has is
    left alone, and its keys are not given again. A plain table of SURVEY is marked first; `patterns` are the
    modality's file names, which keys go without. `exchange` brings duplicates together; it decides nothing.
    """
    from pipelines.shards.planner import Planner

    if isinstance(survey, pa.Table):
        survey = Survey.of(marked(survey, settings=settings, patterns=patterns))
    plan = Plan(settings)
    with tempfile.TemporaryDirectory(prefix="rayloom-") as folder:
        Planner(plan, survey, Path(folder), known, exchange).run()
    return plan


def compared(settings: Mapping[str, Any]) -> Compare:
    """What a survey must find out of every sample for these settings."""
    if settings["dedup"] == "content":
        return "arrays"
    return "prints" if settings["dedup"] == "near" or settings["split"]["by"] == "cluster" else ""
