"""Objects that are opened once, by who packs them: the same shards, the same quarantine as with a survey."""

import os
import random
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fsspec
import pyarrow as pa
import pytest

import modalities
from jobs.chaos.small import PLAIN, build, make_pictures, plain_work
from pipelines.parquet import from_parquet
from pipelines.shards.arrivals import entry_id, listing_key, survey_key, write_arrivals
from pipelines.shards.dataset import Dataset
from pipelines.shards.marks import MARKED, SURVEY
from pipelines.shards.pack import dropped_key, pack_unit, read_done
from pipelines.shards.plain import apart
from pipelines.shards.plan import Plan, Survey, make_plan
from pipelines.shards.planned import read_plan, write_plan
from pipelines.shards.repair import repair
from pipelines.shards.storage import LocalStorage
from pipelines.sources import Entry, list_source
from pipelines.sources.entry import Part
from pipelines.stages.survey import survey_entries

SETTINGS: dict[str, Any] = {
    **PLAIN, "split": {"val": 0.3, "test": 0.0, "by": "scene"},
    "shards": {"max_bytes": 2**20, "max_samples": 3, "shuffle": True},
}  # fmt: skip
Write = Callable[[Path], None]


def listed(folder: Path | str, modality: str, **fields: Any) -> list[Entry]:
    given = {"synth": None, "labels": "auto", "glob": None, "uri_column": "uri", "label_column": "label"}
    source = SimpleNamespace(uri=str(folder), caption_column="caption", seed=0, **(given | fields))
    return list(list_source(source, modalities.get(modality)))


def plan_of(entries: list[Entry], modality: str, settings: dict[str, Any], *, plain: bool) -> Plan:
    kind = modalities.get(modality)
    tell = apart(settings, patterns=kind.patterns)
    assert tell
    listed_, others = tell(entries)
    if plain:
        assert not others
        return make_plan(Survey.of(tell.rows(listed_)), settings=settings)
    rows = survey_entries(entries, kind, [], decode=settings["decode"], sandbox=False)
    return make_plan(pa.Table.from_pylist(rows, schema=SURVEY), settings=settings, patterns=kind.patterns)


def packed(plan: Plan, modality: str, folder: Path) -> LocalStorage:
    storage = LocalStorage(folder)
    name = write_plan(storage, plan, modality)
    for unit in range(plan.units):
        pack_unit(storage, name, unit)
    return storage


def objects(storage: LocalStorage) -> dict[str, bytes]:
    """Shards and their indexes."""
    return {key: storage.get(key) for folder in ("shards/", "index/") for key in storage.list(folder)}


def left_out(storage: LocalStorage) -> list[dict[str, Any]]:
    rows = [from_parquet(storage.get(key)).to_pylist() for key in storage.list("quarantine/")]
    return sorted((row for table in rows for row in table), key=lambda row: row["name"])


def write_samples(folder: Path, modality: str, count: int) -> None:
    """Objects of two classes, with what belongs to them, as their modality makes them."""
    kind = modalities.get(modality)
    for i in range(count):
        for extension, content in kind.synth(i).items():
            path = folder / f"class {i % 2}" / f"{i:02}.{extension}"
            if extension.endswith(("json", "txt", "cls", "seg.png")):
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


@pytest.mark.parametrize("modality", ["image", "pointcloud", "hyperspectral", "video"])
@pytest.mark.parametrize("decode", [False, True])
def test_what_is_opened_once_gives_the_shards_of_what_was_surveyed(
    modality: str, decode: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYLOOM_SANDBOX", "0")
    write_samples(tmp_path / "source", modality, 7)
    entries = [entry for entry in listed(tmp_path / "source", modality) if not entry.sidecars]
    settings = {**SETTINGS, "decode": decode}
    once = packed(plan_of(entries, modality, settings, plain=True), modality, tmp_path / "once")
    twice = packed(plan_of(entries, modality, settings, plain=False), modality, tmp_path / "twice")
    assert len(entries) >= 7
    assert len(objects(once)) >= 6
    assert objects(once) == objects(twice)


def test_the_decoder_process_changes_no_byte_of_what_is_opened_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_samples(tmp_path / "source", "image", 40)  # more than two batches
    (tmp_path / "source/class 0/bad.png").write_bytes(b"\x89PNG\r\n\x1a\n no picture")
    settings = {**SETTINGS, "decode": True, "shards": {**SETTINGS["shards"], "max_samples": 40}}
    plan = plan_of(listed(tmp_path / "source", "image"), "image", settings, plain=True)
    apart_ = packed(plan, "image", tmp_path / "apart")
    monkeypatch.setenv("RAYLOOM_SANDBOX", "0")
    here = packed(plan, "image", tmp_path / "here")
    assert objects(apart_) == objects(here)
    assert left_out(apart_) == left_out(here) != []


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def hollow(path: Path) -> None:
    path.write_bytes(b"")


BROKEN: dict[str, tuple[str, Write]] = {
    "cut before": ("truncated", cut),
    "no picture": ("corrupt", lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n no picture")),
    "hollow": ("empty", hollow),
    "link": ("unsafe", lambda path: (path.unlink(), path.symlink_to("/etc/hostname"))[0]),
}


@pytest.mark.parametrize("how", BROKEN)
def test_what_is_broken_has_the_reason_that_a_survey_gives(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYLOOM_SANDBOX", "0")
    make_pictures(source := tmp_path / "source")
    (source / "bad.png").unlink()
    BROKEN[how][1](source / "3.png")
    entries = listed(source, "image")
    once = packed(plan := plan_of(entries, "image", PLAIN, plain=True), "image", tmp_path / "once")
    twice = packed(surveyed := plan_of(entries, "image", PLAIN, plain=False), "image", tmp_path / "twice")
    assert left_out(once) == left_out(twice)
    [row] = left_out(once)
    assert (row["name"], row["status"]) == ("3.png", "quarantined")
    assert row["detail"]
    assert plan.num_samples + plan.num_dropped == surveyed.num_samples + surveyed.num_dropped == len(entries)
    names = {r["source"] for key in once.list("index/") for r in from_parquet(once.get(key)).to_pylist()}
    assert names == {entry.name for entry in entries} - {"3.png"}


def grown(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


LATER: dict[str, tuple[str, Write]] = {
    "vanished": ("unreadable", lambda path: path.unlink()),
    "grown": ("changed", grown),
    "cut": ("changed", cut),
    "touched": ("changed", lambda path: os.utime(path, (1, 1))),
    "cut in the same instant": (
        "unreadable", lambda path: (at := path.stat(), cut(path), os.utime(path, ns=(0, at.st_mtime_ns)))[1]
    ),
}  # fmt: skip


@pytest.mark.parametrize("decode", [False, True])
@pytest.mark.parametrize("how", LATER)
def test_what_changes_between_listing_and_packing_is_set_aside_and_the_books_close(
    how: str, decode: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYLOOM_SANDBOX", "0")
    make_pictures(source := tmp_path / "source")
    plan = plan_of(listed(source, "image"), "image", {**PLAIN, "decode": decode}, plain=True)
    reason, change = LATER[how]
    change(source / "3.png")
    storage = packed(plan, "image", tmp_path / "data")
    rows = {row["name"]: row for row in left_out(storage)}
    assert rows.keys() == {"3.png", "bad.png"}
    assert (rows["3.png"]["reason"], rows["3.png"]["content"]) == (reason, None)
    [name] = {key.split("/")[1] for key in storage.list("runs/")}
    marks = [read_done(storage, name, unit) for unit in range(plan.units)]
    assert sum(mark.counts["written"] for mark in marks if mark) == plan.num_samples - 2
    assert sum(mark.counts["quarantined"] for mark in marks if mark) == 2


def test_what_a_store_says_was_written_since_the_listing_is_set_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same size, and a picture still: nothing but the store's word tells it."""
    monkeypatch.setenv("RAYLOOM_SANDBOX", "0")
    make_pictures(tmp_path / "source")
    fs = fsspec.filesystem("memory")
    for path in (tmp_path / "source").glob("[0-3].png"):
        fs.pipe_file(f"/opened-once/{path.name}", path.read_bytes())
    plan = plan_of(listed("memory://opened-once", "image"), "image", PLAIN, plain=True)
    fs.pipe_file("/opened-once/3.png", fs.cat_file("/opened-once/3.png"))
    storage = packed(plan, "image", tmp_path / "data")
    fs.rm("/opened-once", recursive=True)
    assert [(row["name"], row["reason"]) for row in left_out(storage)] == [("3.png", "changed")]
    names = {
        r["source"] for key in storage.list("index/") for r in from_parquet(storage.get(key)).to_pylist()
    }
    assert names == {"0.png", "1.png", "2.png"}


def test_a_sample_that_no_tar_can_hold_costs_itself_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A member whose name is longer than the format has room for rides along in an older tar."""
    monkeypatch.setenv("RAYLOOM_SANDBOX", "0")
    make_pictures(tmp_path / "pictures")
    (tmp_path / "source").mkdir()
    with tarfile.open(tmp_path / "source/old.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        for name in "012":
            tar.add(tmp_path / f"pictures/{name}.png", f"{name}.png")
            tar.add(tmp_path / "pictures/bad.png", f"{name}.{'x' * (120 if name == '1' else 20)}")
    rows = survey_entries(listed(tmp_path / "source", "image"), modalities.get("image"), [], sandbox=False)
    assert [row["status"] for row in rows] == ["ok"] * 3
    plan = make_plan(pa.Table.from_pylist(rows, schema=SURVEY), settings=PLAIN)
    storage = packed(plan, "image", tmp_path / "data")
    [row] = left_out(storage)
    assert (row["name"], row["reason"]) == ("old.tar/1.png", "does-not-fit")
    assert "x" * 120 in row["detail"]
    [shard] = storage.list("shards/")
    with tarfile.open(Path(storage.url, shard)) as tar:
        assert {name.partition(".")[0][-1] for name in tar.getnames()} == {"0", "2"}
        assert len(tar.getnames()) == 6
    name = next(storage.list("runs/")).split("/")[1]
    assert [read_done(storage, name, unit).counts for unit in range(plan.units)] == [  # type: ignore[union-attr]
        {"written": 2, "quarantined": 1, "filtered": 0}
    ]


class Overtaken(LocalStorage):
    """A worker's storage: another one comes first whenever it wants to put a mark."""

    def put(self, key: str, content: bytes | Path) -> bool:
        if "/done/" in key:
            self.other()
        return super().put(key, content)

    def other(self) -> None:
        raise NotImplementedError


def test_of_two_workers_that_saw_different_files_one_counts(tmp_path: Path) -> None:
    make_pictures(source := tmp_path / "source")
    (source / "bad.png").unlink()
    work = plain_work("work", source)
    fast = LocalStorage(tmp_path / "data")

    def pack(storage: LocalStorage, plan: str, unit: int) -> Any:
        slow = Overtaken(tmp_path / "data")

        def other() -> None:
            for name in "2345":
                os.utime(source / f"{name}.png", (1, 1))
            pack_unit(fast, plan, unit)
            for name in "2345":
                os.utime(source / f"{name}.png", ns=(0, times[name]))

        slow.other = other  # type: ignore[method-assign]
        return pack_unit(slow, plan, unit)

    times = {name: (source / f"{name}.png").stat().st_mtime_ns for name in "2345"}
    build(fast, work, random.Random(0), pack=pack)
    dataset = Dataset.open(str(tmp_path / "data"))
    dropped = [row["name"] for row in dataset.dropped()]
    written = [row.source for _, row in dataset]
    assert len(list(fast.list("quarantine/"))) > len({key for key in fast.list("runs/") if "/done/" in key})
    assert sorted([*dropped, *written]) == sorted(path.name for path in [*source.iterdir(), source / "6.png"])
    assert set(dropped) >= {f"{name}.png" for name in "2345"}
    assert dataset.check()["ok"]


def test_a_repair_takes_sources_that_were_moved_back_with_other_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYLOOM_SANDBOX", "0")
    make_pictures(source := tmp_path / "source")
    storage = LocalStorage(tmp_path / "data")
    digest = build(storage, plain_work("work", source), random.Random(0))
    for path in source.iterdir():
        if path.name != "changes.png":  # it is in quarantine as changed
            os.utime(path, (1, 1))
    shards = Dataset.open(storage.url).manifest.shards
    of_changed = {row["name"] for row in Dataset.open(storage.url).dropped()}
    for shard in shards:
        storage.delete(shard.key)
        storage.delete(shard.index_key)
    done = repair(storage, settings_of=lambda job: {name: job[name] for name in PLAIN})
    assert "changes.png" in of_changed
    assert (done.left, done.digest) == ([], digest)


@pytest.mark.parametrize("since", ["mended", "gone"])
@pytest.mark.parametrize("lost", ["shards", "marks"])
def test_a_repair_needs_no_source_of_what_was_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, since: str, lost: str
) -> None:
    monkeypatch.setenv("RAYLOOM_SANDBOX", "0")
    make_pictures(source := tmp_path / "source")
    storage = LocalStorage(tmp_path / "data")
    digest = build(storage, plain_work("work", source), random.Random(0))
    dataset = Dataset.open(storage.url)
    for name in {row["name"] for row in dataset.dropped()}:
        (source / name).unlink(missing_ok=True)
        if since == "mended":
            shutil.copyfile(source / "0.png", source / name)
    golden = {key: storage.get(key) for key in storage.list("")}
    for key in golden:
        if "/done/" in key if lost == "marks" else key.startswith(("shards/", "index/")):
            storage.delete(key)
    done = repair(storage, settings_of=lambda job: {name: job[name] for name in PLAIN})
    assert (done.left, done.digest) == ([], digest)
    assert {key: storage.get(key) for key in storage.list("")} == golden


@pytest.mark.parametrize("other", ["done/000000.json", "plan.json"])
def test_a_head_is_repaired_by_its_copy_and_its_list_whatever_else_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    monkeypatch.setenv("RAYLOOM_SANDBOX", "0")
    make_pictures(source := tmp_path / "source")
    storage = LocalStorage(tmp_path / "data")
    digest = build(storage, plain_work("work", source), random.Random(0))
    [plan] = Dataset.open(storage.url).plans()
    for key in ("manifest/000000.json", f"runs/{plan}/{other}"):
        storage.replace(key, storage.get(key)[:-1])
    done = repair(storage, settings_of=lambda job: {name: job[name] for name in PLAIN})
    assert (done.left, done.digest) == ([], digest)


def test_what_a_commit_that_died_left_damaged_is_written_anew(tmp_path: Path) -> None:
    make_pictures(source := tmp_path / "source")
    storage, work = LocalStorage(tmp_path / "data"), plain_work("work", source)
    digest = build(storage, work, random.Random(0))
    [plan] = Dataset.open(storage.url).plans()
    storage.delete("manifest/000000.json")
    [listing] = storage.list("manifest/")
    for key in (listing, f"runs/{plan}/head.json"):
        storage.replace(key, storage.get(key)[:-1])
    assert build(storage, work, random.Random(0)) == digest
    assert Dataset.open(storage.url).check()["problems"] == []


def test_a_mark_is_made_anew_of_its_shard_where_sources_are_gone(tmp_path: Path) -> None:
    make_pictures(source := tmp_path / "source")
    storage = LocalStorage(tmp_path / "data")
    digest = build(storage, plain_work("work", source), random.Random(0))
    before = {key: storage.get(key) for key in storage.list("")}
    [plan] = Dataset.open(storage.url).plans()
    marks = list(storage.list(f"runs/{plan}/done/"))
    left_out = [read_done(storage, plan, unit).left_out for unit in range(len(marks))]  # type: ignore[union-attr]
    assert any(left_out)
    shutil.rmtree(source)
    for key in marks:
        storage.delete(key)
    done = repair(storage, settings_of=lambda job: {name: job[name] for name in PLAIN})
    assert (done.left, done.digest, sorted(done.objects)) == ([], digest, marks)
    assert {key: storage.get(key) for key in storage.list("")} == before


@pytest.mark.parametrize("folder", ["shards", "index", "quarantine"])
def test_what_a_worker_that_died_left_damaged_is_written_anew(tmp_path: Path, folder: str) -> None:
    make_pictures(source := tmp_path / "source")
    storage, work = LocalStorage(tmp_path / "data"), plain_work("work", source)
    digest = build(storage, work, random.Random(0))
    before = {key: storage.get(key) for key in storage.list("")}
    for key in (*storage.list("manifest/"), *storage.list("runs/")):
        if "/done/" in key or key.startswith("manifest/"):
            storage.delete(key)
    for key in list(storage.list(f"{folder}/")):
        content = bytearray(storage.get(key))
        content[len(content) // 2] ^= 1
        storage.replace(key, bytes(content))
    assert build(storage, work, random.Random(0)) == digest
    assert {key: storage.get(key) for key in storage.list("")} == before


def test_units_before_had_one_name_each_and_are_read_still(tmp_path: Path) -> None:
    make_pictures(source := tmp_path / "source")
    storage = LocalStorage(tmp_path / "data")
    build(storage, plain_work("work", source), random.Random(0))
    dataset = Dataset.open(storage.url)
    before = sorted(row["name"] for row in dataset.dropped())
    [plan] = dataset.plans()
    for unit in range(read_plan(storage, plan)["units"]):
        mark = read_done(storage, plan, unit)
        if mark and mark.left_out:
            key = dropped_key(plan, unit, mark.left_out)
            storage.put(f"quarantine/{plan}/{unit:06}.parquet", storage.get(key))
            storage.delete(key)
    assert sorted(row["name"] for row in dataset.dropped()) == before != []
    assert dataset.check()["ok"]


@pytest.mark.parametrize(
    "changes",
    [
        {"stages": [{"kind": "filter", "field": "label", "one_of": ["a"]}]},
        {"dedup": "exact"},
        {"split": {"val": 0.1, "test": 0.0, "by": "cluster"}},
        {"split": {"val": 0.1, "test": 0.0, "by": "scene", "stratify": True}},
    ],
)
def test_where_samples_decide_about_each_other_all_are_surveyed(changes: dict[str, Any]) -> None:
    assert apart({**PLAIN, **changes}, patterns=["*.jpg"]) is None


def test_what_says_more_than_its_listing_is_surveyed(tmp_path: Path) -> None:
    tell = apart(PLAIN, patterns=["*.jpg"])
    assert tell
    here, there = Part("/a.jpg", 7), Part("https://x.org/u.jpg", -1)
    plain = [
        Entry("a.jpg", here),
        Entry("r.jpg", there, refusal=("unsafe", "no")),
        Entry("c/", here, {"c": here}),
    ]
    other = [
        Entry("s.jpg", here, sidecars={"cls": here}), Entry("u.jpg", there),
        Entry("synth/1", Part("synth:image:1", 0)), Entry("h.jpg", here, {"h.raw": there}),
    ]  # fmt: skip
    found, others = tell([*other[:2], *plain, *other[2:]])
    assert others == other
    table = tell.rows(found)
    assert table.schema == MARKED
    make, given = found.__reduce__()
    assert tell.rows(make(*given)).equals(table), "in another process, too"
    assert [(row["name"], row["status"], row["num_bytes"]) for row in table.to_pylist()] == [
        ("a.jpg", "ok", 7), ("r.jpg", "quarantined", 0), ("c/", "ok", 14)
    ]  # fmt: skip


def test_each_entry_is_in_one_chunk_or_one_part_and_among_the_ids(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    here, beside = Part("/a.jpg", 7), {"cls": Part("/a.cls", 1)}
    entries = [Entry(f"{i}.jpg", here, sidecars=beside if i % 3 == 0 else {}) for i in range(9000)]
    tell = apart(PLAIN, patterns=["*.jpg"])
    found = write_arrivals(storage, entries, settings="s", apart=tell)
    assert found.survey != write_arrivals(storage, entries, settings="s").survey
    assert (found.rows, found.parts) == (6000, 3)
    surveyed = [
        Entry.from_json(text)
        for i in range(found.chunks)
        for text in from_parquet(storage.get(listing_key(found.survey, i)))["entry"].to_pylist()
    ]
    parts = range(found.chunks, found.chunks + found.parts)
    texts = [
        text
        for i in parts
        for text in from_parquet(storage.get(survey_key(found.survey, i)))["entry"].to_pylist()
    ]
    assert [entry.name for entry in surveyed] == [f"{i}.jpg" for i in range(0, 9000, 3)]
    assert [Entry.from_json(text).name for text in texts] == [f"{i}.jpg" for i in range(9000) if i % 3]
    ids = from_parquet(storage.get(f"runs/{found.survey}/ids/000000.parquet"))["id"].to_pylist()
    assert sorted(ids) == sorted(entry_id(entry.to_json()) for entry in entries)
