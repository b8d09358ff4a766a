import random
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest

from pipelines.shards.plan import SURVEY, Plan, make_key, make_plan

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


class Snapshot:
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
