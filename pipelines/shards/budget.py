"""How much of a dataset may lie in quarantine. A run that would set more aside makes no snapshot."""

from collections import Counter
from dataclasses import dataclass
from typing import Final

from pipelines.parquet import from_parquet
from pipelines.seal import Corrupt, seal, unseal
from pipelines.shards.arrivals import survey_key
from pipelines.shards.pack import done_key, read_done
from pipelines.shards.planned import read_plan
from pipelines.shards.quarantine import dropped_keys
from pipelines.shards.storage import Storage, read_verified

SHOWN: Final = 5  # reasons, in the message


class OverBudget(Exception):
    """More inputs would be set aside than the job allows; nothing was committed."""


@dataclass(frozen=True, kw_only=True)
class Allowance:
    """Of all inputs of a dataset, the snapshot before included."""

    max_share: float
    max_count: int | None = None

    def __str__(self) -> str:
        count = "" if self.max_count is None else f", quarantine.max_count {self.max_count}"
        return f"quarantine.max_share {self.max_share}{count}"

    def is_spent(self, quarantined: int, inputs: int) -> bool:
        """Whether so many of so many inputs are more than is allowed."""
        share = quarantined / inputs if inputs else 0.0
        return share > self.max_share or (self.max_count is not None and quarantined > self.max_count)


@dataclass(kw_only=True)
class Spending:
    """What a run sets aside, as it becomes known. Both numbers count the snapshot before, too."""

    budget: Allowance
    storage: Storage
    survey: str
    plan: str
    inputs: int
    quarantined: int

    def add(self, quarantined: int) -> None:
        """So many more. OverBudget, as soon as that is certain; what was done is kept."""
        self.quarantined += quarantined
        if not self.budget.is_spent(self.quarantined, self.inputs):
            return
        self.storage.put(_refused_key(self.survey), seal({"plan": self.plan}))
        raise OverBudget(
            f"{self.storage.url}: {self.quarantined:,} of {self.inputs:,} inputs at least are quarantined, "
            f"more than the job allows ({self.budget}); no snapshot was made. Of this run: "
            f"{_reasons(self.storage, self.plan)}. Mend them, or allow more, and run the same command: what "
            "was set aside is looked at again, all else is kept"
        )


def look_again(storage: Storage, survey: str) -> None:
    """Forget what a run that was over its budget had set aside; nothing, if there was none.

    Done by the next run and not by that one: workers of it may have been at work still.
    """
    try:
        plan = read_verified(storage, _refused_key(survey), _plan_of)
    except FileNotFoundError:
        return
    for key in [*storage.list(survey_key(survey, 0)[: -len("000000.parquet")])]:
        found = read_verified(storage, key, lambda content: from_parquet(content, ["status"]))
        if "quarantined" in found["status"].unique().to_pylist():
            storage.delete(key)
    for unit in range(read_plan(storage, plan)["units"]):
        try:
            mark = read_done(storage, plan, unit)
        except Corrupt:  # whoever packs the unit sees to it
            continue
        if mark and mark.counts["quarantined"]:
            storage.delete(done_key(plan, unit))
    storage.delete(planned_key(survey))
    storage.delete(_refused_key(survey))


def planned_key(survey: str) -> str:
    """Names the plan that was made of a survey."""
    return f"runs/{survey}/planned.json"


def _refused_key(survey: str) -> str:
    return f"runs/{survey}/refused.json"


def _plan_of(content: bytes) -> str:
    plan: str = unseal(content)["plan"]
    return plan


def _reasons(storage: Storage, plan: str) -> str:
    """Reason codes, the most frequent first, each with one object that has it."""
    counts: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for key in dropped_keys(storage, plan):
        table = read_verified(storage, key, from_parquet)
        for row in table.select(["status", "reason", "name", "detail"]).to_pylist():
            if row["status"] == "quarantined":
                counts[row["reason"]] += 1
                examples.setdefault(row["reason"], f"{row['name']}: {row['detail']}")
    told = [f"{count:,} {reason} ({examples[reason][:200]})" for reason, count in counts.most_common(SHOWN)]
    return ", ".join(told)
