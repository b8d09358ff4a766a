"""Commands that look after a dataset's storage: its trial, repair, gc, and what changed between snapshots."""

import json
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from jobs.failures import OK, STORAGE
from jobs.scratch import scratch
from pipelines.shards.dataset import Dataset
from pipelines.shards.difference import difference, open_snapshot
from pipelines.shards.gc import AGE_S, collect
from pipelines.shards.repair import repair as repaired
from pipelines.shards.replay import to_replay
from pipelines.shards.storage import open_storage
from pipelines.shards.trial import probe, try_storage

DIFFERENT = 1  # diff found differences, repair could not mend everything
SHOWN = 20
PROBES = 3  # tries of one write; afterwards each operation has all of the policy's patience


def doctor(url: str, *, as_json: bool = False, large: bool = True) -> int:
    """Try whether a storage keeps what datasets rest on. Exit code 4 when it does not, or is not there."""
    storage = open_storage(url)
    probe(storage, tries=PROBES)
    findings = try_storage(storage, large=large)
    fit = all(finding.kept for finding in findings if finding.vital)
    if as_json:
        print(json.dumps({"url": url, "fit": fit, "findings": [asdict(finding) for finding in findings]}))
    else:
        for finding in findings:
            word = "kept" if finding.kept else "BROKEN" if finding.vital else "not kept"
            print(f"{word:<9} {finding.promise}  ({finding.seen})")
        verdict = "fit for datasets" if fit else "not fit: two builders could overwrite each other's work"
        print(f"{url}: {verdict}")
    return OK if fit else STORAGE


def repair(dataset: str, *, as_json: bool = False) -> int:
    """Rebuild what is damaged. Exit code 1 when something is left."""
    with scratch():
        done = repaired(open_storage(dataset), settings_of=settings_of)
    if as_json:
        left = [str(problem) for problem in done.left]
        print(json.dumps({"repaired": done.objects, "left": left, "manifest": done.digest}))
    else:
        for key in done.objects:
            print(f"rebuilt {key}")
        for problem in done.left:
            print(f"left: {problem}", file=sys.stderr)
        verdict = "nothing to repair" if not (done.objects or done.left) else f"{len(done.objects)} rebuilt"
        rest = f", {len(done.left)} problems left" if done.left else ""
        print(f"{dataset}: {verdict}{rest}; digest {done.digest[:16]}")
    return DIFFERENT if done.left else OK


def settings_of(job: Mapping[str, Any]) -> dict[str, Any]:
    """What of a resolved ingest job decides the bytes."""
    from jobs.ingest import SETTINGS

    return {name: job[name] for name in SETTINGS}


def replay(dataset: str, *, reason: str | None = None, source: str | None = None) -> int:
    """Look again at what lies in quarantine, with the job of the newest snapshot; in `source`, this once."""
    from jobs.ingest import waiting_in

    code = _replay(dataset, reason, source)
    if count := waiting_in(dataset):
        print(f"  {count} duplicates wait, as what was to stay was lost: rayloom run JOB looks at them again")
    return code


def _replay(dataset: str, reason: str | None, source: str | None) -> int:
    from jobs.config.schema import IngestJob, Source
    from jobs.ingest import ingest_dataset

    before = Dataset.open(dataset)
    names = to_replay(before, reason)
    if not names:
        print(f"{dataset}: nothing in quarantine" + (f" with reason {reason}" if reason else ""))
        return OK
    described = before.manifest.job
    job = IngestJob.model_validate({**described, "output": dataset})
    there = Source.model_validate({**described["source"], "uri": source}) if source else None
    outcome = ingest_dataset(job, replay=names, source=there)
    books, manifest = outcome.books, outcome.manifest
    if not outcome.added:
        print(f"{dataset}: none of {len(names)} names in quarantine can be admitted")
        return OK
    print(
        f"{dataset}: {books.written} samples of {len(names)} names in quarantine admitted, "
        f"{books.quarantined} quarantined again; snapshot {manifest.number}, digest {manifest.digest[:16]}"
    )
    return OK


def gc(dataset: str, *, older_than_h: float = AGE_S / 3600, dry: bool = False, as_json: bool = False) -> int:
    """Remove what no snapshot names and is older than that."""
    found = collect(open_storage(dataset), older_than_s=older_than_h * 3600, dry=dry)
    if as_json:
        print(json.dumps({**asdict(found), "dry": dry}))
        return OK
    for key in found.objects[:SHOWN]:
        print(key)
    if len(found.objects) > SHOWN:
        print(f"... and {len(found.objects) - SHOWN} more")
    rest = "" if found.finished else "; there is more, run it again"
    print(
        f"{dataset}: {len(found.objects)} objects, {found.size:,} bytes and {len(found.uploads)} unfinished "
        f"uploads {'would be removed' if dry else 'removed'}{rest}"
    )
    return OK


def diff(a: str, b: str, *, as_json: bool = False) -> int:
    """What b has and a has not, sample by sample. Exit code 1 when they differ."""
    first, second = open_snapshot(a), open_snapshot(b)
    counts = Counter[str]()
    with scratch():
        for found in difference(first, second):
            counts[found.what] += 1
            if as_json:
                print(json.dumps(asdict(found)))
            else:
                sign = {"added": "+", "removed": "-", "changed": "~"}[found.what]
                print(f"{sign} {found.key}" + (f"  ({', '.join(found.fields)})" if found.fields else ""))
    if not as_json:
        texts = ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))
        same = "the same data" if first.manifest.digest == second.manifest.digest else "the same samples"
        print(f"{a} -> {b}: {texts or same}", file=sys.stderr)
    return DIFFERENT if counts else OK
