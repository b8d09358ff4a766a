"""`rayloom config`: what it prints is true and can be used."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.config import TrainJob, load_job
from jobs.config.display import explain_text, resolved_text, schema_text
from jobs.config.document import Document
from jobs.config.fieldtree import tree
from jobs.config.load import load_with_places
from jobs.config.schema import JOBS

FILE = """\
kind: ingest
modality: video
source: {uri: raw}
output: "no"
stages:
  - {kind: cut, how: clips}
  - {kind: filter, field: label, one_of: ["1e-4", "null", 3, 2.5, true, ""]}
shards:
  max_bytes: 1.5MiB
"""


def resolve(file: Path, overrides: list[str]) -> str:
    return resolved_text(*load_with_places(file, overrides))


def test_a_resolved_job_loads_as_the_same_job(tmp_path: Path) -> None:
    file, again = tmp_path / "job.yaml", tmp_path / "again.yaml"
    file.write_text(FILE.replace("  - {kind: cut, how: clips}\n", ""))
    overrides = ["seed=7", "split.val=1e-05"]
    again.write_text(resolve(file, overrides))
    assert load_job(again) == load_job(file, overrides)
    assert load_job(again).digest() == load_job(file, overrides).digest()


def test_every_value_names_its_origin(tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(FILE.replace("  - {kind: cut, how: clips}\n", ""))
    origins = {}
    for line in resolve(file, ["seed=7"]).splitlines()[1:]:
        value, _, origin = line.partition("  # ") if "  # " in line else line.partition(" # ")
        origins[value.strip()] = origin
    assert origins["modality: video"] == f"{file}:2:11"
    assert origins["max_bytes: 1572864"] == f"{file}:8:14"
    assert origins["seed: 7"] == "override 'seed=7'"
    assert origins["shuffle: true"] == "default"


numbers = st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False)


@settings(max_examples=60)
@given(st.text(min_size=1).filter(str.strip), st.lists(st.text() | numbers | st.booleans(), max_size=4))
def test_any_text_survives_resolving(
    tmp_path_factory: pytest.TempPathFactory, name: str, options: list[object]
) -> None:
    said = {"kind": "train", "dataset": "d", "task": "masked", "steps": 3, "output": "r"}
    job = TrainJob.model_validate(said | {"model": {"name": name, "options": {"o": options}}})
    file = tmp_path_factory.getbasetemp() / "resolved.yaml"
    file.write_text(resolved_text(job, Document(None)), encoding="utf-8", newline="")
    assert load_job(file) == job


@pytest.mark.parametrize("kind", [*JOBS, None])
def test_the_schema_is_json_and_closed(kind: str | None) -> None:
    schema = json.loads(schema_text(kind))
    text = json.dumps(schema)
    assert "max_bytes" in text or kind not in ("ingest", None)
    if kind:
        assert schema["additionalProperties"] is False
        assert set(schema["properties"]) == set(JOBS[kind].model_fields)
    with pytest.raises(LookupError, match="did you mean 'ingest'"):
        schema_text("injest")


def test_every_field_is_described() -> None:
    for kind in JOBS:
        for field in tree(kind):
            assert field.info.description or field.path.endswith("kind"), field.path
            assert field.path in explain_text(field.path)
    assert len(explain_text(None).splitlines()) == sum(1 for kind in JOBS for _ in tree(kind))


def test_a_field_is_explained_by_any_of_its_names() -> None:
    assert "256MiB" in explain_text("shards.max_bytes")
    assert explain_text("max_bytes") == explain_text("shards.max_bytes")
    assert explain_text("stages.0.min") == explain_text("stages.filter.min") == explain_text("stages.min")
    assert explain_text("seed").count("whole number, >= 0") == 2  # ingest and train
    assert "changes the result: no" in explain_text("quarantine")
    assert "changes the result: yes" in explain_text("shards")
    with pytest.raises(LookupError, match=r"no field 'shards\.max_byts'.*did you mean 'shards\.max_bytes'"):
        explain_text("shards.max_byts")
