"""gc removes what nobody needs, keeps what anybody might, and stays out of builders' way."""

import random
import shutil
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from jobs.chaos.small import build, make_pictures, survey, work_on
from pipelines.seal import Corrupt
from pipelines.shards.arrivals import survey_key
from pipelines.shards.check import find_problems
from pipelines.shards.gc import collect
from pipelines.shards.manifest import Conflict, load
from pipelines.shards.pack import pack_unit
from pipelines.shards.runs import Record, record_key, require_shared
from pipelines.shards.storage import LocalStorage, Storage
from pipelines.shards.turns import (
    COLLECTING,
    STARTED,
    attempt,
    attempt_key,
    building,
    collecting,
    end_attempt,
    forgotten,
    sharing,
)

OLD_S = 3600.0


def aged(folder: Path, seconds: float = 2 * OLD_S) -> None:
    """As if everything there had been written that long ago."""
    import os

    for path in folder.rglob("*"):
        moment = path.stat().st_mtime - seconds
        os.utime(path, (moment, moment))


@pytest.fixture
def leftovers(damaged: Path, tmp_path: Path) -> LocalStorage:
    """A finished dataset, and beside it a run that died, a shard that was never marked, half an upload."""
    make_pictures(tmp_path / "more")
    for path in (tmp_path / "more").glob("[3-6].png"):
        path.write_bytes(path.read_bytes() + b"other")
    storage = LocalStorage(damaged)
    rows = survey(tmp_path / "more")
    work = work_on("died", [row for row in rows if row["name"] in ("3.png", "4.png", "5.png", "6.png")])
    plan = work.write(storage)
    pack_unit(storage, plan, 0)
    storage.put("shards/" + "0" * 64 + ".tar", b"never marked")
    storage.put("manifest/000002-0123456789abcdef.parquet", b"of a builder that came second")
    storage.begin_upload("shards/half.tar", b"half")
    return storage


def test_what_no_snapshot_names_goes_and_the_rest_stays(leftovers: LocalStorage) -> None:
    digest = load(leftovers).digest
    theirs = (
        "shards/mine-000.tar", "index/notes.txt", "manifest/README.md", "runs/mine/notes.txt",
        "quarantine/looked-at/bad.parquet",
    )  # fmt: skip
    for key in theirs:
        leftovers.put(key, b"of somebody else")
    aged(leftovers.root)
    before = set(leftovers.list(""))
    would = collect(leftovers, older_than_s=OLD_S, dry=True)
    assert set(leftovers.list("")) == before
    done = collect(leftovers, older_than_s=OLD_S)
    assert done == would
    assert set(leftovers.list("")) == before - set(done.objects)
    kinds = {key.split("/")[0] for key in done.objects}
    assert kinds == {"shards", "index", "runs", "manifest"}
    assert any("/done/" in key for key in done.objects)
    assert not set(theirs) & set(done.objects)
    assert len(done.uploads) == 1
    assert list(leftovers.uploads()) == []
    assert (load(leftovers).digest, find_problems(leftovers)[0]) == (digest, [])
    assert collect(leftovers, older_than_s=OLD_S).objects == []


def test_what_is_young_stays(leftovers: LocalStorage) -> None:
    before = set(leftovers.list(""))
    done = collect(leftovers, older_than_s=OLD_S)
    assert (done.objects, done.uploads) == ([], [])
    assert set(leftovers.list("")) == before


def test_a_run_with_anything_young_keeps_what_its_marks_name(leftovers: LocalStorage) -> None:
    aged(leftovers.root)
    leftovers.put("runs/died/listing/000001.parquet", b"somebody goes on")
    [plan] = {k.split("/")[1] for k in leftovers.list("runs/") if "/plan.json" in k} - set(
        run.partition("/")[2] for run in load(leftovers).plans
    )
    leftovers.put(f"runs/{plan}/units/young", b"")
    mark = next(key for key in leftovers.list(f"runs/{plan}/done/"))
    done = collect(leftovers, older_than_s=OLD_S)
    assert mark not in done.objects
    assert [key for key in done.objects if key.startswith("shards/")] == ["shards/" + "0" * 64 + ".tar"]


def test_an_unreadable_manifest_stops_it(leftovers: LocalStorage) -> None:
    aged(leftovers.root)
    path = leftovers.root / "manifest/000001.json"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(Corrupt):
        collect(leftovers, older_than_s=OLD_S)
    assert leftovers.size("shards/" + "0" * 64 + ".tar") is not None
    assert leftovers.size(COLLECTING) is None


def test_builders_and_gc_see_each_other_whoever_comes_first(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    with building(storage), pytest.raises(Conflict, match="a builder is at work"), _turn(storage):
        pass
    with _turn(storage), pytest.raises(Conflict, match="gc is at work"), building(storage):
        pass
    with _turn(storage), pytest.raises(Conflict, match="another rayloom gc"), _turn(storage):
        pass
    with building(storage), building(storage):  # builders need no turns
        pass
    assert list(storage.list("")) == []
    with _turn(storage):
        pass


def test_a_try_that_is_forgotten_slowly_takes_nothing_from_a_later_one(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    first = attempt(storage, "replay-x")
    assert attempt(storage, "replay-x") == first, "both work on it"
    end_attempt(storage, first)
    later = attempt(storage, "replay-x")
    assert later != first
    end_attempt(storage, first)  # the other who had it forgets it as well
    assert (forgotten(storage, first), forgotten(storage, later)) == (True, False)
    for tries, lost in ((False, FileNotFoundError(f"{tmp_path}/runs/{first}/listing/000000.parquet")),
                        (True, AssertionError("units [0] ended without their mark"))):  # fmt: skip
        with pytest.raises(Conflict, match="run the same again"), sharing(storage, first, tries=tries):
            raise lost
    with pytest.raises(AssertionError), sharing(storage, later, tries=True):  # nobody's fault but ours
        raise AssertionError


@pytest.mark.parametrize("young", [False, True])
def test_a_try_that_died_leaves_nothing_but_while_it_may_be_taken_up_again(
    leftovers: LocalStorage, young: bool
) -> None:
    survey = attempt(leftovers, "replay-0")
    part = survey_key(survey, 0)
    if not young:
        leftovers.create(part, b"")
    aged(Path(leftovers.url))
    if young:
        leftovers.create(part, b"")
    collect(leftovers, older_than_s=OLD_S)
    left = {key for key in leftovers.list("runs/") if "replay-0" in key}
    assert left == ({attempt_key("replay-0"), part} if young else set())


def test_a_run_of_which_another_forgot_a_part_is_not_committed(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    survey = attempt(storage, "replay-x")
    storage.put(survey_key(survey, 0), b"what was found")
    storage.put(record_key(survey), Record(plan="plan", survey=["its digest"]).sealed())
    require_shared(storage, f"{survey}/plan", tries=True)
    with pytest.raises(Conflict, match="run the same again"):
        require_shared(storage, f"{survey}/another", tries=True)
    storage.delete(survey_key(survey, 0))
    with pytest.raises(Conflict, match="run the same again"):
        require_shared(storage, f"{survey}/plan", tries=True)
    storage.put(survey_key(survey, 0), b"what was found")
    end_attempt(storage, survey)
    with pytest.raises(Conflict, match="run the same again"):
        require_shared(storage, f"{survey}/plan", tries=True)
    require_shared(storage, f"{survey}/plan", tries=False)


def _turn(storage: Storage) -> AbstractContextManager[Any]:
    return collecting(storage, builder_age_s=OLD_S)


def test_those_that_died_are_waited_for_and_then_forgotten(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    storage.put(f"{STARTED}dead", b"")
    with pytest.raises(Conflict), _turn(storage):
        pass
    aged(tmp_path)
    with _turn(storage):
        pass
    storage.put(COLLECTING, b"")
    with pytest.raises(Conflict), building(storage):
        pass
    aged(tmp_path, 3 * OLD_S)
    with building(storage):
        pass
    with _turn(storage):
        pass


def test_gc_ends_before_its_turn_does(leftovers: LocalStorage) -> None:
    aged(leftovers.root)
    times = iter([0.0, 1.0, 2.0])
    done = collect(leftovers, older_than_s=OLD_S, clock=lambda: next(times, 1e6))
    assert not done.finished
    assert len(done.objects) == 2


def test_a_run_that_lost_a_shard_to_gc_is_not_committed(damaged: Path, tmp_path: Path) -> None:
    """Its marks are taken back, and the same job again builds the shard again."""
    make_pictures(tmp_path / "more")
    work = work_on("again", survey(tmp_path / "more"))
    storage = LocalStorage(tmp_path / "fresh")

    def pack(storage: Storage, plan: str, unit: int) -> object:
        done = pack_unit(storage, plan, unit)
        shutil.rmtree(tmp_path / "fresh/shards")
        return done

    with pytest.raises(Conflict, match="were removed meanwhile; run the same job again"):
        build(storage, work, random.Random(0), pack=pack)
    build(storage, work, random.Random(0))
    assert find_problems(storage)[0] == []


def test_a_damaged_mark_of_a_living_run_stops_nothing(leftovers: LocalStorage) -> None:
    [mark] = [
        key
        for key in leftovers.list("runs/")
        if "/done/" in key and not any(key.split("/")[1] in run for run in load(leftovers).plans)
    ]
    leftovers.replace(mark, b"no mark")
    assert collect(leftovers, older_than_s=OLD_S).objects == []
    plan = mark.split("/")[1]
    assert pack_unit(leftovers, plan, 0).shard
    assert find_problems(leftovers)[0] == []
