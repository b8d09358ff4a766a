import random
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipelines.shards import decisions, layout, spill
from pipelines.shards.known import Known
from pipelines.shards.marks import marked
from pipelines.shards.plan import SURVEY, Plan, Survey, make_key, make_plan

SETTINGS: dict[str, Any] = {
    "seed": 0, "dedup": "none", "split": {"val": 0.2, "test": 0.1, "by": "scene"},
    "shards": {"max_bytes": 100_000, "max_samples": 10, "shuffle": True},
}  # fmt: skip


def survey(count: int = 100, **changes: Any) -> list[dict[str, Any]]:
    common = {name: None for name in SURVEY.names} | {
        "status": "ok",
        "entry": "{}",
        "suffix": "",
        "meta": "{}",
    }
    rows = (
        {"name": f"d{i % 7}/{i:03}.jpg", "num_bytes": 100 * i, "content": f"c{i}", "group": f"g{i // 3}"}
        for i in range(count)
    )
    return [common | row | changes for row in rows]


def plan(rows: list[dict[str, Any]], settings: dict[str, Any] = SETTINGS, **more: Any) -> Plan:
    return make_plan(
        pa.Table.from_pylist(rows, schema=SURVEY), settings=settings, patterns=("*.jpg",), **more
    )


def test_the_plan_does_not_depend_on_the_order_of_the_survey() -> None:
    rows = survey()
    shuffled = random.Random(0).sample(rows, len(rows))
    assert plan(shuffled).digest == plan(rows).digest
    assert plan(shuffled).samples.equals(plan(rows).samples)


@pytest.mark.parametrize("change", [{"seed": 1}, {"shards": {**SETTINGS["shards"], "max_samples": 9}}])
def test_another_setting_is_another_plan(change: dict[str, Any]) -> None:
    assert plan(survey(), SETTINGS | change).digest != plan(survey()).digest


def test_what_is_left_out_belongs_to_the_plan() -> None:
    """Two runs that write the same and leave out something else must not pass for one."""
    rows = survey(20)
    rows[3] |= {"status": "quarantined", "reason": "truncated", "detail": "at byte 7"}
    golden = plan(rows).digest
    rows[3]["detail"] = "at byte 8"
    assert plan(rows).digest != golden


def test_every_sample_is_in_one_unit_within_the_limits() -> None:
    table = plan(survey()).samples.to_pandas()
    assert sorted(table["name"]) == sorted(row["name"] for row in survey())
    assert table["key"].is_unique
    for _, unit in table.groupby("unit"):
        assert len(unit) <= 10
        assert unit["split"].nunique() == 1
        assert list(unit["key"]) == sorted(unit["key"])
    assert table["unit"].is_monotonic_increasing


def test_a_scene_is_never_split() -> None:
    table = plan(survey(600)).samples.to_pandas()
    assert table.groupby("group")["split"].nunique().max() == 1
    shares = table["split"].value_counts(normalize=True)
    assert abs(shares["val"] - 0.2) < 0.08
    assert abs(shares["test"] - 0.1) < 0.08


def test_exact_duplicates_are_dropped_and_name_the_one_that_stays() -> None:
    rows = survey(20)
    rows[5]["content"] = rows[2]["content"]
    made = plan(rows, SETTINGS | {"dedup": "exact"})
    [dropped] = made.dropped.to_pylist()
    kept = {rows[2]["name"], rows[5]["name"]} - {dropped["name"]}
    assert dropped["status"] == "duplicate"
    assert (dropped["reason"], dropped["detail"]) == ("same-bytes", f"of {kept.pop()}")
    assert made.samples.num_rows == 19


class Snapshot(Known):
    """What make_plan asks of the snapshot before."""

    def __init__(
        self, samples: list[dict[str, Any]], left_out: list[dict[str, Any]] = (), classes: Any = ()
    ) -> None:  # type: ignore[assignment]
        self.classes = list(classes)
        names = ["key", "source", "content", "arrays", "label", "caption", "group"]
        common: dict[str, Any] = dict.fromkeys(names, "") | {"arrays": None, "label": None, "caption": None}
        rows = [common | {"fingerprint": None, "split": 1} | row for row in samples]
        schema = pa.schema(
            [*((name, pa.string()) for name in names), ("fingerprint", pa.uint64()), ("split", pa.int8())]
        )
        self._samples = pa.Table.from_pylist(rows, schema=schema)
        self._left_out = pa.Table.from_pylist(
            list(left_out), schema=pa.schema([(name, pa.string()) for name in ("name", "content", "reason")])
        )

    def samples(self) -> Iterator[pa.Table]:
        yield self._samples

    def left_out(self) -> Iterator[pa.Table]:
        yield self._left_out


def test_keys_that_meet_are_told_apart_and_taken_ones_are_left_alone() -> None:
    rows = survey(3)
    rows[0]["name"], rows[1]["name"], rows[2]["name"] = "a b.jpg", "a_b.jpg", "c.jpg"
    keys = plan(rows, known=Snapshot([{"key": "c", "source": "elsewhere/c.jpg"}])).samples["key"].to_pylist()
    assert len(set(keys)) == 3
    assert "c" not in keys
    assert all(key.startswith(("a_b-", "c-")) for key in keys)


@pytest.mark.parametrize(
    ("name", "suffix", "patterns", "key"),
    [
        ("cats/Tom Cat.v2.jpg", "", ("*.jpg",), "cats/Tom_Cat_v2"),
        ("frame.0001.JPG", "", ("*.jpg",), "frame_0001"),
        ("scan.pcd.bin", "", ("*.bin", "*.pcd.bin"), "scan"),
        ("scene.zarr/", "y0-x0", ("*.zarr/",), "scene_y0-x0"),
        ("bunny/lights.npy", "", ("lights.npy",), "bunny"),
        ("train.tar/a/7.left.jpg", "", ("*.jpg",), "a/7"),
        ("../../etc/passwd.jpg", "", ("*.jpg",), "etc/passwd"),
    ],
)
def test_keys(name: str, suffix: str, patterns: tuple[str, ...], key: str) -> None:
    assert make_key(name, suffix, patterns) == key


def test_classes_are_those_there_are_unless_they_are_numbers_already() -> None:
    rows = survey(3)
    for row, label in zip(rows, ("1999", "10", None), strict=True):
        row["label"] = label
    assert plan(rows).classes == ["10", "1999"]
    numbers = {**SETTINGS, "classes": "numbers"}
    assert plan(rows, settings=numbers).classes == [str(i) for i in range(2000)]
    with pytest.raises(ValueError, match="classes: numbers wants labels from 0 to 99999, got 'cat'"):
        plan(survey(2, label="cat"), settings=numbers)
    assert plan(survey(2, label="cat"), known=Snapshot([], classes=["dog"])).classes == ["dog", "cat"]


def everything() -> list[dict[str, Any]]:
    """Rows with every fate: kept, filtered, quarantined, same bytes, near, keys that meet, two classes."""
    rows = survey(240)
    rng = np.random.default_rng(0)
    for i, row in enumerate(rows):
        row["label"] = "rare" if i % 10 == 0 else "common"
        row["fingerprint"] = int(rng.integers(1, 2**64, dtype=np.uint64))
        if i % 9 == 8:
            row["content"] = rows[i - 3]["content"]
        if i % 11 == 10:
            row["fingerprint"] = rows[i - 5]["fingerprint"] ^ (1 << i % 64)
        if i % 13 == 12:
            row["name"] = rows[i - 1]["name"].replace(".jpg", ".v2.jpg").replace("/", "/ ")
        if i % 17 == 16:
            row |= (
                {"status": "filtered", "reason": "label"}
                if i % 2
                else {"status": "quarantined", "reason": "bad"}
            )
    return rows


WAYS = {
    "plain": {},
    "exact": {"dedup": "exact"},
    "near": {"dedup": "near", "dedup_distance": 4},
    "cluster": {"split": {"val": 0.2, "test": 0.1, "by": "cluster", "stratify": False}},
    "stratify": {"split": {"val": 0.2, "test": 0.1, "by": "scene", "stratify": True}},
    "in order": {"shards": {**SETTINGS["shards"], "shuffle": False}, "dedup": "near"},
}


def watched(add_units: Callable[..., None], folder: Path, lying: list[set[str]]) -> Callable[..., None]:
    """Takes down which parts of a plan that is being made have files on disk, unit after unit."""

    def look() -> None:
        places = (path.relative_to(folder).parts[1:] for path in folder.rglob("*") if path.is_file())
        lying.append({"/".join(place[:2] if place[0] == "duplicates" else place[:1]) for place in places})
        lying[-1] -= {"units", "dropped", "clusters"}  # the plan itself

    def add(self: Plan, units: Iterator[Any]) -> None:
        def looked_at() -> Iterator[Any]:
            for unit in units:
                look()
                yield unit
            look()

        add_units(self, looked_at())

    return add


@pytest.mark.parametrize("way", WAYS)
def test_order_parts_and_memory_of_the_survey_decide_nothing(
    way: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """And what was read for the last time has left the disk."""
    settings = SETTINGS | WAYS[way]
    rows = everything()
    golden = plan(rows, settings)
    assert golden.num_samples + golden.num_dropped == len(rows)
    shuffled = pa.Table.from_pylist(random.Random(1).sample(rows, len(rows)), schema=SURVEY)
    whole = marked(shuffled, settings=settings, patterns=("*.jpg",))

    def parts(columns: list[str]) -> Iterator[pa.Table]:
        yield from (whole.slice(start, 37).select(columns) for start in range(0, len(rows), 37))

    monkeypatch.setattr(spill, "ROWS", 60)
    monkeypatch.setattr(decisions, "ROWS", 60)
    monkeypatch.setattr(spill, "FEWER_ROWS", 60)
    monkeypatch.setattr(spill, "HELD_BYTES", 8000)
    monkeypatch.setattr(layout, "BUCKET_BYTES", 0)
    monkeypatch.setattr(spill.Spill.__init__, "__kwdefaults__", {"bucket_bytes": 0})
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    lying: list[set[str]] = []  # in the planner's folder, after each unit
    monkeypatch.setattr(Plan, "add_units", watched(Plan.add_units, tmp_path, lying))
    small = make_plan(Survey(len(rows), parts), settings=settings)
    assert "layout" in lying[0]
    assert lying[-1] <= {"early", "later"} | (
        set() if settings["shards"]["shuffle"] else {"layout"}  # read once more, for the next split
    )
    assert small.digest == golden.digest
    assert small.samples.equals(golden.samples)
    assert small.table("clusters").equals(golden.table("clusters"))


def test_near_duplicates_are_dropped_and_name_one_that_stays() -> None:
    rows = survey(6)
    prints = [0b1111 << 20, 0b1110 << 20, 0b1000 << 20, 2**60 - 1, None, 0]
    for row, fingerprint, size in zip(rows, prints, (10, 30, 20, 40, 50, 60), strict=True):
        row |= {"fingerprint": fingerprint, "num_bytes": size}
    rows.append(
        rows[5] | {"name": "flat.jpg", "content": "other"}
    )  # 0 says nothing: two of them are not alike
    made = plan(rows, SETTINGS | {"dedup": "near", "dedup_distance": 2})
    dropped = {row["name"]: row["detail"] for row in made.dropped.to_pylist()}
    # The one with most bytes stays, and what is within 2 bits of it goes.
    assert dropped == {
        rows[0]["name"]: f"of {rows[1]['name']}, 1 of 64 bits differ",
        rows[2]["name"]: f"of {rows[1]['name']}, 2 of 64 bits differ",
    }
    clusters = made.table("clusters").to_pylist()
    assert {row["name"]: row["stays"] for row in clusters} == {
        rows[0]["name"]: False, rows[1]["name"]: True, rows[2]["name"]: False
    }  # fmt: skip
    assert len({row["cluster"] for row in clusters}) == 1


def test_scenes_with_near_duplicates_share_a_split_when_asked() -> None:
    rows = everything()
    settings = SETTINGS | WAYS["cluster"]
    made = plan(rows, settings)
    split = dict(zip(made.samples["name"].to_pylist(), made.samples["split"].to_pylist(), strict=True))
    by_content: dict[str, set[str]] = {}
    for row in rows:
        if row["name"] in split:
            by_content.setdefault(row["content"], set()).add(split[row["name"]])
    assert all(len(splits) == 1 for splits in by_content.values())
    leaks = 0
    plain = plan(rows).samples
    alone = dict(zip(plain["name"].to_pylist(), plain["split"].to_pylist(), strict=True))
    for i in range(10, 240, 11):
        a, b = rows[i]["name"], rows[i - 5]["name"]
        if a in split and b in split:
            assert split[a] == split[b]
            leaks += alone[a] != alone[b]
    assert leaks > 1, "or by scene would not leak either, and nothing is shown"


@pytest.mark.parametrize("dedup", ["none", "exact", "content", "near"])
def test_only_who_asks_for_it_loses_near_duplicates(dedup: str) -> None:
    """Splits by cluster find them too, to keep them together."""
    rows = survey(4)
    for i, row in enumerate(rows):
        row |= {"fingerprint": 0b111 << 7 * i, "content": f"{i:032x}", "arrays": f"{i:032x}"}
    rows[1] |= {"fingerprint": rows[0]["fingerprint"] ^ 1}
    rows[3] |= {"content": rows[2]["content"], "arrays": rows[2]["arrays"]}
    made = plan(rows, SETTINGS | WAYS["cluster"] | {"dedup": dedup, "dedup_distance": 2})
    lost = {row["reason"] for row in made.dropped.to_pylist() if row["status"] == "duplicate"}
    same = {"none": set[str](), "content": {"same-content"}}.get(dedup, {"same-bytes"})
    assert lost == same | ({"near-duplicate"} if dedup == "near" else set())
    assert len(made.samples) == 4 - len(lost)


def test_every_class_gets_its_shares_when_asked() -> None:
    rows = [
        row | {"label": "rare" if i % 10 == 0 else "common"} for i, row in enumerate(survey(1000, group=""))
    ]
    for i, row in enumerate(rows):
        row["group"] = f"g{i}"
    table = plan(rows, SETTINGS | WAYS["stratify"]).samples.to_pandas()
    counts = table.groupby(["label", "split"]).size()
    assert [counts["rare", name] for name in ("val", "test", "train")] == [20, 10, 70]
    assert [counts["common", name] for name in ("val", "test", "train")] == [180, 90, 630]


def test_scenes_of_several_classes_get_the_shares_too() -> None:
    rows = [row | {"label": "abc"[i % 3], "group": f"g{i // 3}"} for i, row in enumerate(survey(300))]
    table = plan(rows, SETTINGS | WAYS["stratify"]).samples.to_pandas()
    assert (table.groupby("group")["split"].nunique() == 1).all()
    counts = table.groupby(["label", "split"]).size()
    for label in "abc":  # every scene holds one of each
        assert [counts[label, name] for name in ("val", "test", "train")] == [20, 10, 70]


def test_without_shuffle_shards_follow_the_order_of_names() -> None:
    settings = SETTINGS | {"shards": {**SETTINGS["shards"], "shuffle": False}}
    table = plan(survey(), settings).samples.to_pandas()
    for _, part in table.groupby("split"):
        assert part["key"].is_monotonic_increasing


def test_a_snapshot_before_settles_what_is_new() -> None:
    rows = everything()
    known, new = rows[:140], rows[80:]
    settings = SETTINGS | {"dedup": "near", "dedup_distance": 4}
    first = plan(known, settings)
    there = [
        {**{name: row[name] for name in ("key", "content", "label", "caption", "group", "fingerprint")},
         "source": row["name"], "split": ["test", "train", "val"].index(row["split"])}
        for row in first.samples.to_pylist()
    ]  # fmt: skip
    before = Snapshot(there, first.dropped.select(["name", "content", "reason"]).to_pylist(), first.classes)
    second = plan(new, settings, known=before)
    names = set(second.samples["name"].to_pylist()) | set(second.dropped["name"].to_pylist())
    assert names == {row["name"] for row in rows[140:]}, "what the snapshot has looked at is left alone"
    assert not set(second.samples["key"].to_pylist()) & set(first.samples["key"].to_pylist())
    whole = plan(rows, settings)
    assert second.counts["duplicate"] + first.counts["duplicate"] >= whole.counts["duplicate"]
    contents = first.samples["content"].to_pylist() + second.samples["content"].to_pylist()
    assert len(contents) == len(set(contents))


def test_a_file_that_changed_under_its_name_is_said_once() -> None:
    rows = survey(3)
    there = [
        {"key": "x", "source": rows[0]["name"], "content": "other bytes", "label": None, "caption": None}
    ]
    made = plan(rows, known=Snapshot(there))
    [dropped] = made.dropped.to_pylist()
    assert (dropped["name"], dropped["reason"]) == (rows[0]["name"], "changed")
    said = [{"name": dropped["name"], "content": dropped["content"], "reason": "changed"}]
    assert plan(rows, known=Snapshot(there, said)).num_dropped == 0


def test_new_pieces_of_a_known_scene_stay_in_its_split_when_splits_are_by_class() -> None:
    rows = survey(30)
    there = [
        {"key": f"k{i}", "source": f"old/{i}.jpg", "content": f"old{i}", "group": f"g{i}", "split": 0}
        for i in range(10)
    ]
    table = plan(rows, SETTINGS | WAYS["stratify"], known=Snapshot(there)).samples.to_pandas()
    assert (table["split"] == "test").all(), "every scene of these rows is in the test split already"
    assert len(table) == 30


def test_a_survey_of_which_nothing_is_kept_is_a_plan_of_nothing() -> None:
    made = plan(survey(3, status="quarantined", reason="corrupt"))
    assert (made.samples.num_rows, made.dropped.num_rows) == (0, 3)
