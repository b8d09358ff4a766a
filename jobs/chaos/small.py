"""A dataset of a dozen tiny pictures with every fate in it, built by the real code without Ray."""

import io
import os
import random
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import blake3
import pyarrow as pa

import modalities
from jobs.config.schema import Source as DeclaredSource
from pipelines.jsontext import digest
from pipelines.parquet import to_parquet
from pipelines.shards import manifest as manifests
from pipelines.shards.closing import commit_run
from pipelines.shards.dataset import Dataset
from pipelines.shards.known import Known
from pipelines.shards.manifest import Books, Conflict
from pipelines.shards.marks import SURVEY, marked
from pipelines.shards.pack import pack_unit
from pipelines.shards.plain import apart
from pipelines.shards.plan import Plan, Survey, make_plan
from pipelines.shards.planned import write_plan
from pipelines.shards.runs import Record, record_key
from pipelines.shards.storage import Storage
from pipelines.shards.turns import building
from pipelines.sources import Entry, list_source
from pipelines.stages.survey import survey_entries

SETTINGS: Final[dict[str, Any]] = {
    "stages": [], "decode": False, "dedup": "exact", "seed": 0,
    "split": {"val": 0.0, "test": 0.0, "by": "scene"},
    "shards": {"max_bytes": 2**20, "max_samples": 4, "shuffle": True},
}  # fmt: skip
PLAIN: Final[dict[str, Any]] = {**SETTINGS, "dedup": "none"}  # nothing is opened before it is packed
GOOD: Final = 7


@dataclass(frozen=True, kw_only=True)
class Work:
    """One run that somebody wants done: a plan over the snapshot `parent` (a digest, or None)."""

    name: str
    survey: bytes  # as the survey's worker put it
    plan: Plan
    parent: str | None
    settings: Mapping[str, Any]

    @cached_property
    def objects(self) -> tuple[str, list[tuple[str, bytes]]]:
        """The plan's name and what the real `write_plan` puts, in its order: the same every time."""
        recorder = _Recorder()
        recorder.put(f"runs/{self.name}/survey/000000.parquet", self.survey)
        plan = write_plan(recorder, self.plan, "image", survey=self.name)
        record = Record(plan=plan, survey=[blake3.blake3(self.survey).hexdigest()])
        recorder.put(record_key(self.name), record.sealed())
        return plan, recorder.puts

    def write(self, storage: Storage) -> str:
        """Put the survey and the plan, as a worker and `write_plan` do."""
        plan, puts = self.objects
        for key, content in puts:
            storage.put(key, content)
        return plan


class _Recorder(Storage):
    """Takes down what is put; nothing else is asked of it."""

    def __init__(self) -> None:
        self.url, self.puts = "memory://recorder", list[tuple[str, bytes]]()

    def put(self, key: str, content: bytes | Path) -> bool:
        self.puts.append((key, content.read_bytes() if isinstance(content, Path) else content))
        return True

    create = put
    replace = get = size = list = delete = modified = None  # type: ignore[assignment]
    begin_upload = uploads = abort = staging = None  # type: ignore[assignment]


def make_pictures(folder: Path) -> None:
    """Good ones, one that is none, one that is there twice, and one that changes before it is packed."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    for i in range(GOOD):
        Image.new("RGB", (4, 4), (25 * i, 0, 9)).save(out := io.BytesIO(), "PNG")
        (folder / f"{i}.png").write_bytes(out.getvalue())
    (folder / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n no picture")
    shutil.copyfile(folder / "0.png", folder / "twice.png")
    (folder / "changes.png").write_bytes((folder / "1.png").read_bytes() + b"before")


def survey(folder: Path) -> list[dict[str, Any]]:
    """Rows for plans, by the real survey; afterwards changes.png has changed."""
    rows = survey_entries(_listed(folder), modalities.get("image"), [], decode=False, sandbox=False)
    (folder / "changes.png").write_bytes((folder / "1.png").read_bytes() + b"behind")
    return rows


def _listed(folder: Path) -> list[Entry]:
    declared = DeclaredSource(uri=str(folder), labels="none").model_dump()
    source: Any = type("Source", (), {**declared, "seed": 0})
    return list(list_source(source, modalities.get("image")))


def work_on(name: str, rows: list[dict[str, Any]], *, parent: Dataset | None = None) -> Work:
    """The real plan of some rows of the survey, over the snapshot `parent`."""
    table = pa.Table.from_pylist(rows, schema=SURVEY)
    table = marked(table, settings=SETTINGS, patterns=modalities.get("image").patterns)
    plan = make_plan(Survey.of(table), settings=SETTINGS, known=Known(parent) if parent else None)
    digest_ = parent.manifest.digest if parent else None
    return Work(name=name, survey=to_parquet(table), plan=plan, parent=digest_, settings=SETTINGS)


def plain_work(name: str, folder: Path) -> Work:
    """The plan of all pictures in `folder` by their listing alone; then one changes, and one goes away."""
    kind = modalities.get("image")
    tell = apart(PLAIN, patterns=kind.patterns)
    assert tell
    plain, others = tell(_listed(folder))
    assert not others
    table = tell.rows(plain)
    (folder / "changes.png").write_bytes((folder / "1.png").read_bytes() + b"behind")
    os.utime(folder / "changes.png", (1, 1))
    (folder / "6.png").unlink()
    plan = make_plan(Survey.of(table), settings=PLAIN)
    return Work(name=name, survey=to_parquet(table), plan=plan, parent=None, settings=PLAIN)


def touch(path: Path, *, changed: bool) -> None:
    """Write to a file of `plain_work`, or put it back as it was listed."""
    if not (kept := path.with_suffix(".listed")).exists():
        os.link(path, kept)  # hidden from nobody: the listing is over
    path.unlink()
    if changed:
        path.write_bytes(kept.read_bytes() + b"later")
    else:
        os.link(kept, path)


def build(
    storage: Storage, work: Work, rng: random.Random, *, pack: Callable[[Storage, str, int], Any] = pack_unit
) -> str:
    """What the driver of an ingest does, step by step. The digest of the snapshot that holds the work.

    Conflict: somebody else committed something different on the same parent.
    """
    newest = manifests.latest(storage)
    parent = None if newest is None else manifests.load(storage, newest)
    if parent and any(run.startswith(f"{work.name}/") for run in parent.plans):
        return parent.digest
    if (parent.digest if parent else None) != work.parent:
        raise Conflict(f"{work.name} was planned over another snapshot")
    with building(storage):
        plan = work.write(storage)
        units = list(range(work.plan.units))
        rng.shuffle(units)
        for unit in units:
            pack(storage, plan, unit)
        committed, _ = commit_run(
            storage, run=f"{work.name}/{plan}", parent=parent, left_out=left_out(work.plan.counts),
            modality="image",
            settings=digest(["image", work.settings]), classes=work.plan.classes,
            job={**work.settings, "source": {"anonymous": False}},
        )  # fmt: skip
    return committed.digest


def left_out(counts: Mapping[str, int]) -> Books:
    """What a plan dropped before packing."""
    return Books(
        quarantined=counts.get("quarantined", 0),
        filtered=counts.get("filtered", 0),
        duplicates=counts.get("duplicate", 0),
    )
