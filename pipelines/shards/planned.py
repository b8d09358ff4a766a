"""A plan on storage: a file a unit, so that who packs a unit reads its rows and no others."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import pyarrow as pa

from pipelines.jsontext import digest
from pipelines.parquet import from_parquet, to_parquet
from pipelines.seal import Corrupt, seal, unseal
from pipelines.shards.ahead import THREADS, ahead
from pipelines.shards.plan import UNITS, Plan
from pipelines.shards.storage import Storage, put_right, read_verified

FEW = 64  # objects that are not worth threads


def write_plan(
    storage: Storage, plan: Plan, modality: str, *, survey: str = "", anonymous: bool = False
) -> str:  # fmt: skip
    """Store the plan and return the name it goes by. Its head comes last: without it there is no plan.

    The name covers the `survey` that it was made from: the same samples may meanwhile lie elsewhere, and a
    plan that names the old place must not be taken up again. `anonymous`: no credentials are used. What
    lies there already, but was damaged, is replaced.
    """
    name = name_of(plan, survey)
    keys = {"units": unit_key, "dropped": left_out_key, "clusters": clusters_key}
    files = [(key(name, i), path) for what, key in keys.items() for i, path in enumerate(plan.files(what))]
    put = partial(put_right, storage)
    for _ in ahead(lambda item: put(*item), files, THREADS if len(files) > FEW else 1):
        pass
    put(units_key(name), to_parquet(pa.Table.from_pylist(plan.dealt, schema=UNITS)))
    head = {
        "plan": name, "modality": modality, "settings": plan.settings, "classes": plan.classes,
        "units": plan.units,
        "samples": plan.num_samples, "dropped": plan.num_dropped, "counts": dict(sorted(plan.counts.items())),
        "parts": {what: len(done) for what, done in sorted(plan.parts.items())}, "anonymous": anonymous,
    }  # fmt: skip
    put(head_key(name), seal(head))
    return name


def name_of(plan: Plan, survey: str) -> str:
    """What a plan goes by on storage."""
    return digest([survey, plan.digest])


def head_key(plan: str) -> str:
    return f"runs/{plan}/plan.json"


def units_key(plan: str) -> str:
    return f"runs/{plan}/units.parquet"


def unit_key(plan: str, unit: int) -> str:
    return f"runs/{plan}/units/{unit:06}.parquet"


def clusters_key(plan: str, part: int) -> str:
    return f"runs/{plan}/clusters/{part:06}.parquet"


def left_out_key(plan: str, part: int) -> str:
    return f"quarantine/{plan}/survey-{part:06}.parquet"


def is_of_plan(key: str, plan: str) -> bool:
    """Whether `write_plan` writes this key."""
    folders = (unit_key(plan, 0)[:-14], clusters_key(plan, 0)[:-14], left_out_key(plan, 0)[:-14])
    return key in (head_key(plan), units_key(plan)) or key.startswith(folders)


def read_plan(storage: Storage, plan: str) -> dict[str, Any]:
    """What the plan says of all units: modality, settings, classes, units, counts, parts, anonymous."""

    def parse(content: bytes) -> dict[str, Any]:
        head = unseal(content)
        if head.get("plan") != plan:
            raise Corrupt("it is the head of something else")
        return head

    return read_verified(storage, head_key(plan), parse)


def read_unit(storage: Storage, plan: str, unit: int) -> list[dict[str, Any]]:
    """The rows of one unit, in their order."""
    table = read_verified(storage, unit_key(plan, unit), from_parquet)
    names = table.schema.names
    columns = (column.to_pylist() for column in table.columns)
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def unit_sizes(storage: Storage, plan: str) -> list[int]:
    """How many samples each unit was dealt."""
    table = read_verified(storage, units_key(plan), from_parquet)
    sizes: list[int] = table["samples"].to_pylist()
    return sizes


def read_clusters(storage: Storage, plan: str) -> Iterator[pa.Table]:
    """Duplicates and what they are duplicates of, as pipelines.shards.plan.CLUSTERS, part by part."""
    for part in range(read_plan(storage, plan)["parts"].get("clusters", 0)):
        yield read_verified(storage, clusters_key(plan, part), from_parquet)
