"""Damage in what a run leaves beside its shards: mended from the rest, or told; no ingest waits for it."""

import logging
import re
import shutil
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest
from blake3 import blake3

from jobs.config.schema import IngestJob
from jobs.ingest import ingest_dataset
from jobs.storage import settings_of
from pipelines.seal import seal
from pipelines.shards.check import find_problems
from pipelines.shards.dataset import Dataset
from pipelines.shards.pack import done_key, read_done
from pipelines.shards.planned import read_unit
from pipelines.shards.quarantine import dropped_key, dropped_table
from pipelines.shards.repair import repair
from pipelines.shards.runs import record_key
from pipelines.shards.storage import Storage, open_storage

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]
Build = Callable[[Path], dict[str, IngestJob]]


def copied(job: IngestJob, folder: Path) -> IngestJob:
    shutil.copytree(job.output, folder, ignore=shutil.ignore_patterns(".staging"))
    return job.model_copy(update={"output": str(folder)})


def flip(storage: Storage, key: str) -> None:
    content = bytearray(storage.get(key))
    content[len(content) // 2] ^= 4
    storage.replace(key, bytes(content))


def objects(storage: Storage) -> dict[str, bytes]:
    """All but heads, which say where the dataset lies, and what a run told its user."""
    apart = re.compile(r"manifest/\d+\.json|.*/head\.json|runs/progress\.jsonl")
    return {key: storage.get(key) for key in storage.list("") if not apart.fullmatch(key)}


def one(storage: Storage, run: str, ending: str) -> str:
    return next(key for key in storage.list(f"runs/{run}/") if key.endswith(ending))


def test_damage_of_many_kinds_at_once_is_repaired(built: dict[str, IngestJob], tmp_path: Path) -> None:
    job = copied(built["surveyed"], tmp_path / "data")
    storage = open_storage(job.output)
    golden, manifest = objects(storage), Dataset.open(job.output).manifest
    survey, plan = manifest.plans[0].split("/")
    for ending in ("survey/000000.parquet", "listing/000001.parquet", "ids/000000.parquet"):
        flip(storage, one(storage, survey, ending))
    for ending in ("clusters/000000.parquet", "units/000001.parquet", "units.parquet"):
        flip(storage, one(storage, plan, ending))
    for key in (one(storage, plan, "units/000000.parquet"), one(storage, plan, "done/000000.json")):
        storage.delete(key)
    flip(storage, manifest.shards[0].key)
    done = repair(storage, settings_of=settings_of)
    assert (done.left, done.digest) == ([], manifest.digest)
    assert objects(storage) == golden
    assert len(done.objects) == len(set(done.objects))


def test_what_another_worker_left_out_is_not_believed_of_a_unit_that_was_written(
    built: dict[str, IngestJob], tmp_path: Path
) -> None:
    job = copied(built["surveyed"], tmp_path / "data")
    storage, manifest = open_storage(job.output), Dataset.open(job.output).manifest
    plan = manifest.plans[0].rpartition("/")[2]
    lost = [
        {**{name: row[name] for name in ("name", "suffix", "entry", "content")}, "status": "quarantined",
         "reason": "unreadable", "detail": "away for a moment", "head": b""}
        for row in read_unit(storage, plan, 0)
    ]  # fmt: skip
    theirs = dropped_table(lost)
    storage.put(dropped_key(plan, 0, blake3(theirs).hexdigest()), theirs)
    golden, mark = objects(storage), read_done(storage, plan, 0)
    assert mark is not None
    assert mark.shard is not None
    for key in (done_key(plan, 0), mark.shard.key):
        storage.delete(key)
    done = repair(storage, settings_of=settings_of)
    assert (done.left, done.digest) == ([], manifest.digest)
    assert objects(storage) == golden

    shutil.move(job.source.uri, aside := tmp_path / "aside")  # nor when it cannot be built at once
    try:
        for key in (done_key(plan, 0), mark.shard.key):
            storage.delete(key)
        assert repair(storage, settings_of=settings_of).left
    finally:
        shutil.move(aside, str(job.source.uri))
    assert repair(storage, settings_of=settings_of).left == []
    assert objects(storage) == golden


def test_what_the_sources_no_longer_give_is_left_and_an_ingest_goes_on(
    build_real: Build, tmp_path: Path
) -> None:
    job = build_real(tmp_path)["surveyed"]
    storage, manifest = open_storage(job.output), Dataset.open(job.output).manifest
    survey = manifest.plans[0].split("/")[0]
    kept = (path := tmp_path / "source/00.jpg").read_bytes()
    path.write_bytes(kept + b"more")
    flip(storage, key := one(storage, survey, "survey/000000.parquet"))
    damaged = storage.get(key)
    done = repair(storage, settings_of=settings_of)
    assert [problem.key for problem in done.left] == [key]
    assert "put them back and repair again" in done.left[0].detail
    assert storage.get(key) == damaged
    path.unlink()
    (tmp_path / "source/new.jpg").write_bytes((tmp_path / "source/01.jpg").read_bytes()[:-2] + b"\xff\xd9 ")
    assert ingest_dataset(job).manifest.number == 2
    path.write_bytes(kept)
    assert repair(storage, settings_of=settings_of).left == []


@pytest.mark.parametrize("name", ["surveyed", "plain"])
def test_damaged_ids_cost_a_second_look_and_nothing_else(
    name: str, build_real: Build, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    job = build_real(tmp_path)[name]
    others = [copied(job, tmp_path / f"other{i}") for i in range(3)]
    stores = [open_storage(other.output) for other in others]
    ids = [key for key in stores[0].list("runs/") if "/ids/" in key]
    for key in ids:
        flip(stores[0], key)
        stores[1].delete(key)
    stores[2].replace(ids[0], stores[2].get(one(stores[2], ids[0].split("/")[1], "survey/000000.parquet")))
    with caplog.at_level(logging.WARNING, "rayloom"):
        assert not any(ingest_dataset(other).added for other in others)
    assert f"{ids[0]} in {stores[0].url} is damaged" in caplog.text
    source = tmp_path / "source"
    shutil.copyfile(source / "03.jpg", source / "copy.jpg")
    (source / "late.jpg").write_bytes((source / "03.jpg").read_bytes() + b" ")
    wanted = ingest_dataset(job).manifest
    assert wanted.number == 2
    for other, store in zip(others, stores, strict=True):
        manifest = ingest_dataset(other).manifest
        assert (manifest.digest, manifest.books) == (wanted.digest, wanted.books)
        assert {problem.key for problem in find_problems(store)[0]} <= set(ids)
        done = repair(store, settings_of=settings_of)
        assert (done.left, set(done.objects) <= set(ids)) == ([], True)
        sources = [row.source for _, row in Dataset.open(other.output)]
        assert len(sources) == len(set(sources))


def test_damage_in_an_unfinished_run_is_made_anew(built: dict[str, IngestJob], tmp_path: Path) -> None:
    job = built["surveyed"]
    golden, manifest = objects(open_storage(job.output)), Dataset.open(job.output).manifest
    (survey0, plan0), (survey, plan) = (run.split("/") for run in manifest.plans)
    run = [key for key in golden if key.split("/")[1] in (survey, plan)]
    kinds = {key.rpartition("/")[0] if key.count("/") > 2 or "quarantine" in key else key: key for key in run}
    assert len(kinds) == 10  # ids, listing, survey, record, plan, units, unit, clusters, mark, quarantine
    for i, (key, swapped) in enumerate(product(kinds.values(), (False, True))):
        again = copied(job, tmp_path / str(i))
        storage = open_storage(again.output)
        storage.delete("manifest/000001.json")
        if swapped:  # intact, but of the run before
            storage.replace(key, golden[key.replace(survey, survey0).replace(plan, plan0)])
        else:
            flip(storage, key)
        outcome = ingest_dataset(again)
        assert (outcome.added, outcome.manifest.digest) == (True, manifest.digest), key
        assert find_problems(storage)[0] == [], key
        assert objects(storage) == golden, key


@pytest.mark.parametrize("name", ["surveyed", "plain"])
def test_damage_before_there_is_a_plan_is_made_anew(
    name: str, built: dict[str, IngestJob], tmp_path: Path
) -> None:
    """Two first snapshots of the same sources: of the second, nothing but what its survey had written."""
    whole = ingest_dataset(built[name].model_copy(update={"output": str(tmp_path / "whole")})).manifest
    golden = objects(open_storage(str(tmp_path / "whole")))
    survey = whole.plans[0].split("/")[0]
    for turn in (1, -1):  # flipped; then each intact, but in the place of another of its kind
        job = copied(built[name].model_copy(update={"output": str(tmp_path / "whole")}), tmp_path / f"{turn}")
        storage = open_storage(job.output)
        for key in list(storage.list("")):
            if f"runs/{survey}/" not in key or key == record_key(survey):
                storage.delete(key)
        for folder in ("ids", "listing", "survey"):
            keys = list(storage.list(f"runs/{survey}/{folder}/"))
            for key, other in zip(keys, keys[::-1], strict=True):
                storage.replace(key, golden[other])
                if turn == 1:
                    flip(storage, key)
        assert ingest_dataset(job).manifest.digest == whole.digest
        assert objects(storage) == golden


@pytest.mark.parametrize(
    ("name", "run", "lost"), [("plain", 0, ("ids", "listing", "survey")), ("surveyed", 1, ("ids", "listing"))]
)
def test_a_lost_record_is_not_made_of_what_is_incomplete(
    name: str, run: int, lost: tuple[str, ...], built: dict[str, IngestJob], tmp_path: Path
) -> None:
    job = copied(built[name], tmp_path / "data")
    storage, manifest = open_storage(job.output), Dataset.open(job.output).manifest
    golden = objects(storage)
    survey = manifest.plans[run].split("/")[0]
    for folder in lost:
        [*_, key] = storage.list(f"runs/{survey}/{folder}/")
        storage.delete(key)
        storage.delete(record_key(survey))
        done = repair(storage, settings_of=settings_of)
        assert record_key(survey) in {problem.key for problem in done.left}, folder
        assert done.digest == manifest.digest
        storage.replace(key, golden[key])
    assert repair(storage, settings_of=settings_of).objects == [record_key(survey)]
    assert objects(storage) == golden


def test_a_run_without_a_record_of_digests_is_checked_by_its_seals(
    built: dict[str, IngestJob], tmp_path: Path
) -> None:
    """As runs were before there was one."""
    job = copied(built["surveyed"], tmp_path / "data")
    storage = open_storage(job.output)
    survey, plan = Dataset.open(job.output).manifest.plans[0].split("/")
    storage.replace(record_key(survey), seal({"plan": plan}))
    assert find_problems(storage)[0] == []
    keys = [
        key for run in (survey, plan) for key in storage.list(f"runs/{run}/") if key.endswith("0.parquet")
    ]
    assert len(keys) == 5  # ids, listing, survey, unit, clusters
    for key in keys:
        flip(storage, key)
    assert {problem.key for problem in find_problems(storage)[0]} == set(keys)
    assert not ingest_dataset(job).added
