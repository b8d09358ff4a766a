"""Run an ingest job: raw objects to one more snapshot of a dataset."""

import os
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from jobs.cluster import cluster
from jobs.config.schema import IngestJob, Source
from jobs.progress import Progress
from jobs.scratch import scratch
from pipelines.shards.storage import STAGING, open_storage
from pipelines.shards.trial import require_trusted
from pipelines.sources.places import resolve, split_glob

SETTINGS = (
    "stages",
    "decode",
    "classes",
    "dedup",
    "dedup_distance",
    "seed",
    "split",
    "shards",
)  # what decides the bytes, with the inputs
FOLDERS = ("index", "shards", "manifest", "runs", "quarantine", STAGING)  # of a dataset


def run(job: IngestJob) -> int:
    """Exit code: 0, or 3 when more was quarantined than the job allows."""
    outcome = ingest_dataset(job)
    books, manifest = outcome.books, outcome.manifest
    if not outcome.added:
        books = manifest.books
    news = "" if outcome.added else "nothing new; "
    print(
        f"{job.output}: {news}snapshot {manifest.number}, {manifest.samples} samples in "
        f"{len(manifest.shards)} shards, {manifest.size:,} bytes, digest {manifest.digest[:16]}\n"
        f"  inputs {books.inputs} = written {books.written} + quarantined {books.quarantined} "
        f"+ duplicates {books.duplicates} + filtered {books.filtered}"
    )
    if outcome.added and any(stage.kind != "filter" for stage in job.stages):
        for extension, count in sorted(left_behind(job.output).items()):
            print(f"  left behind: .{extension} of {count} samples, which no {job.modality} cut carries")
    if outcome.added and (count := waiting_in(job.output, manifest.number)):
        print(
            f"  {count} duplicates wait, as what was to stay was lost: the same command looks at them again"
        )
    if books.quarantined:
        print(f"  reasons: rayloom stats {job.output}; the samples lie in {job.output}/quarantine")
    limit = job.quarantine
    share = books.quarantined / books.inputs if books.inputs else 0.0
    if share > limit.max_share or (limit.max_count is not None and books.quarantined > limit.max_count):
        allowed = limit.max_share if limit.max_count is None else f"{limit.max_share}, or {limit.max_count}"
        print(
            f"{job.output}: {books.quarantined} of {books.inputs} inputs are quarantined, more than "
            f"the job allows (quarantine.max_share {allowed})",
            file=sys.stderr,
        )
        return 3
    return 0


def ingest_dataset(
    job: IngestJob, *, replay: frozenset[str] | None = None, source: Source | None = None
) -> Any:
    """Run the job's graph and return its pipelines.graphs.ingest.Outcome.

    `replay`: of these names alone. `source`: look there, and not where the job says, which is kept as it is.
    """
    resolved, source = job.resolved(), source or job.source
    settings, by_folder = {name: resolved[name] for name in SETTINGS}, job.split.by == "folder"
    storage = open_storage(job.output)
    output = storage.url
    local = None if "://" in output else Path(output)
    if source.uri:
        _check_apart(source.uri, output)
    require_trusted(storage, single_writer=job.single_writer)
    progress = Progress(f"ingest {job.modality}", local and local / "runs" / "progress.jsonl")
    from pipelines.graphs.ingest import ingest

    try:
        with scratch():
            return ingest(
                SimpleNamespace(**source.model_dump(mode="json"), seed=job.seed, by_folder=by_folder),
                output,
                modality=job.modality,
                settings=settings,
                job=resolved,
                replay=replay,
                report=progress,
                connect=lambda: cluster(job.workers),
            )
    finally:
        progress.close()


def waiting_in(output: str, run: int | None = None) -> int:
    """Duplicates of what could not be written when it was packed: by this run, or by any."""
    from pipelines.shards.dataset import Dataset
    from pipelines.shards.waiting import waiting

    rows = waiting(Dataset.open(output)).rows
    return len(rows) if run is None else int((rows["run"] == run).sum())


def left_behind(output: str) -> Counter[str]:
    """Extensions of sidecars that the newest snapshot's new samples came without -> how many samples."""
    from pipelines.jsontext import loads
    from pipelines.shards.dataset import Dataset

    dataset = Dataset.open(output)
    number = dataset.manifest.number
    before = {s.digest for s in Dataset.open(output, number - 1).manifest.shards} if number else set()
    found: Counter[str] = Counter()
    for shard in dataset.manifest.shards:
        if shard.digest not in before:
            for meta in dataset.index(shard, ["meta"])["meta"].to_pylist():
                found.update(loads(meta).get("left_behind", ()))
    return found


def _check_apart(source: str, output: str) -> None:
    """Refuse an output below the source, whichever way either is written: links, file: URLs, globs.

    And a source in a folder of the output: its own shards, or what gc would take for leftovers.
    """
    root = split_glob(resolve(source))[0]
    ours, theirs = (
        (place if "://" in place else os.path.realpath(place)).rstrip("/") + "/" for place in (output, root)
    )
    if ours.startswith(theirs):
        raise ValueError(
            f"output {output} lies in the source {source}: the next run would take the shards for new data; "
            "put it elsewhere"
        )
    if any(theirs.startswith(f"{ours}{folder}/") for folder in FOLDERS):
        raise ValueError(
            f"source {source} lies in what output {output} fills, and rayloom gc removes what is not its own "
            "there; put one of them elsewhere"
        )
