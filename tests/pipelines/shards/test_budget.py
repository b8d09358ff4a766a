"""How much may lie in quarantine, and what a run that is over its budget leaves to the next."""

from pathlib import Path

import pytest

from jobs.chaos.small import make_pictures, plain_work
from pipelines.parquet import from_parquet, to_parquet
from pipelines.seal import seal
from pipelines.shards.arrivals import survey_key
from pipelines.shards.budget import Allowance, OverBudget, Spending, look_again, planned_key
from pipelines.shards.manifest import latest
from pipelines.shards.pack import pack_unit, read_done
from pipelines.shards.storage import LocalStorage


@pytest.mark.parametrize(
    ("share", "count", "quarantined", "inputs", "spent"),
    [
        (0.1, None, 10, 100, False), (0.1, None, 11, 100, True), (0.0, None, 0, 0, False),
        (0.0, None, 1, 10**9, True), (1.0, None, 7, 7, False), (1.0, 3, 3, 100, False),
        (1.0, 3, 4, 100, True), (1.0, 0, 1, 10**9, True), (0.1, 50, 11, 100, True),
    ],
)  # fmt: skip
def test_what_is_allowed_may_be_spent_and_not_one_more(
    share: float, count: int | None, quarantined: int, inputs: int, spent: bool
) -> None:
    assert Allowance(max_share=share, max_count=count).is_spent(quarantined, inputs) is spent


@pytest.fixture
def packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[LocalStorage, str, dict[int, int]]:
    """A plain run of which every unit is packed; its plan, and how many each unit set aside."""
    monkeypatch.setenv("RAYLOOM_SANDBOX", "0")
    make_pictures(tmp_path / "source")
    work = plain_work("work", tmp_path / "source")
    storage = LocalStorage(tmp_path / "data")
    plan = work.write(storage)
    storage.put(planned_key("work"), seal({"plan": plan}))
    aside = {unit: pack_unit(storage, plan, unit).counts["quarantined"] for unit in range(work.plan.units)}
    assert sum(aside.values()) == 3  # no picture, changed, gone
    assert 0 in aside.values()
    return storage, plan, aside


def spend(storage: LocalStorage, plan: str, aside: dict[int, int], budget: Allowance) -> int:
    """How many units were looked at until the budget was spent."""
    spending = Spending(budget=budget, storage=storage, survey="work", plan=plan, inputs=10, quarantined=0)
    for done, quarantined in enumerate(aside.values(), 1):
        if budget.is_spent(spending.quarantined + quarantined, 10):
            with pytest.raises(OverBudget, match=r"no snapshot was made.* 1 changed \(changes.png: "):
                spending.add(quarantined)
            return done
        spending.add(quarantined)
    return len(aside) + 1


def test_a_run_stops_as_soon_as_more_than_allowed_is_set_aside(
    packed: tuple[LocalStorage, str, dict[int, int]],
) -> None:
    storage, plan, aside = packed
    assert spend(storage, plan, aside, Allowance(max_share=0.3)) == len(aside) + 1
    look_again(storage, "work")  # nothing was over any budget
    assert all(read_done(storage, plan, unit) for unit in aside)
    first = next(i for i, unit in enumerate(aside, 1) if aside[unit])
    assert spend(storage, plan, aside, Allowance(max_share=0.0)) == first
    assert latest(storage) is None


def test_the_next_run_forgets_what_was_set_aside_and_nothing_else(
    packed: tuple[LocalStorage, str, dict[int, int]],
) -> None:
    storage, plan, aside = packed
    table = from_parquet(storage.get(survey_key("work", 0)))
    good = table.set_column(0, "status", [["ok"] * len(table)])
    bad = table.set_column(0, "status", [["quarantined", *["ok"] * (len(table) - 1)]])
    storage.put(survey_key("work", 1), to_parquet(bad))
    storage.replace(survey_key("work", 0), to_parquet(good))
    shards = {key: storage.get(key) for key in storage.list("shards/")}
    assert spend(storage, plan, aside, Allowance(max_share=1.0, max_count=1)) <= len(aside)
    for _ in range(2):  # the second time there is nothing to forget
        look_again(storage, "work")
        assert [read_done(storage, plan, unit) is None for unit in aside] == [n > 0 for n in aside.values()]
        assert storage.size(survey_key("work", 0)) is not None
        assert storage.size(survey_key("work", 1)) is None
        assert storage.size(planned_key("work")) is None
    assert {key: storage.get(key) for key in storage.list("shards/")} == shards
    for unit in aside:  # packed again, the same came of it
        assert pack_unit(storage, plan, unit).counts["quarantined"] == aside[unit]
