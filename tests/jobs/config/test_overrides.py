"""Overrides apply or are refused; they never do something else."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.config import ConfigError, IngestJob, TrainJob, load_job
from jobs.config.document import parse
from jobs.config.fieldtree import tree
from jobs.config.overrides import apply

FILE = """\
kind: ingest
modality: image
source: {uri: raw}
output: out
stages:
  - {kind: filter, field: label, one_of: [a, b]}
  - {kind: filter, field: meta.width, min: 3}
"""


@pytest.fixture(scope="module")
def job_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("overrides") / "job.yaml"
    file.write_text(FILE)
    return file


def test_later_overrides_win_and_sections_are_made(job_file: Path) -> None:
    job = load_job(job_file, ["seed=1", "shards.max_bytes=1MiB", "shards.shuffle=false", "seed=2"])
    assert isinstance(job, IngestJob)
    assert (job.seed, job.shards.max_bytes, job.shards.shuffle) == (2, 2**20, False)


def test_items_of_lists_are_reached_by_number(job_file: Path) -> None:
    job = load_job(job_file, ["stages.1.min=7", "stages.0.one_of.1=c", "stages.0.one_of.0=3"])
    assert isinstance(job, IngestJob)
    assert job.resolved()["stages"][0]["one_of"] == [3, "c"]
    assert job.resolved()["stages"][1]["min"] == 7


def test_a_section_can_be_replaced_whole(job_file: Path) -> None:
    job = load_job(job_file, ["source={synth: 5}", "stages=[]"])
    assert isinstance(job, IngestJob)
    assert (job.source.synth, job.source.uri, job.stages) == (5, None, ())


def test_a_value_may_hold_an_equals_sign_and_be_empty(job_file: Path) -> None:
    job = load_job(job_file, ["source.uri=a=b", "workers="])
    assert isinstance(job, IngestJob)
    assert (job.source.uri, job.workers) == ("a=b", None)


def test_a_replaced_value_keeps_no_place_of_the_old_one() -> None:
    document = parse("a: {b: 1}\n", "f")
    apply(document, ["a={c: 2}"])
    assert ("a", "b") not in document.values
    assert str(document.values["a", "c"]) == "override 'a={c: 2}'"


paths = st.sampled_from(sorted({field.path for kind in ("ingest", "train") for field in tree(kind)}))
words = st.text("abkindstages.0123_-=[]{}: ", max_size=12)
values = st.sampled_from(
    ["1", "-1", "0.5", "x", "true", "null", "[]", "{}", "[1, a]", "{a: 1}", "", "1MiB", "s3://b/c"]
)
overrides = st.builds(lambda path, value: f"{path}={value}", paths | words, values | words) | words


@settings(max_examples=200)
@given(st.lists(overrides, max_size=3))
def test_any_override_applies_or_is_a_config_error(job_file: Path, given_overrides: list[str]) -> None:
    try:
        job = load_job(job_file, given_overrides)
    except ConfigError as e:
        causes = [mistake.cause for mistake in e.mistakes]
    else:
        causes = ["none"] if type(job).model_validate(job.resolved()) == job else []
    assert causes
    assert all(causes)


@settings(max_examples=50)
@given(
    seed=st.integers(0, 2**62), rate=st.floats(1e-12, 10), size=st.integers(-5, 5), text=st.text(min_size=1)
)
def test_an_override_that_applies_gives_its_value(
    tmp_path_factory: pytest.TempPathFactory, seed: int, rate: float, size: int, text: str
) -> None:
    file = tmp_path_factory.getbasetemp() / "train.yaml"
    file.write_text("kind: train\ndataset: d\ntask: regression\nmodel: {name: m}\nsteps: 1\noutput: r\n")
    written = yaml.safe_dump(text, width=10**6).removesuffix("...\n").strip("\n")
    said = [f"seed={seed}", f"learning_rate={rate!r}", f"data.size={size}", f"model.name={written}"]
    try:
        job = load_job(file, said)
    except ConfigError as e:  # text that YAML cannot carry, or that reads as a number
        paths = {mistake.path for mistake in e.mistakes}
    else:
        assert isinstance(job, TrainJob)
        assert (job.seed, job.learning_rate, job.data["size"], job.model.name) == (seed, rate, size, text)
        paths = {"model.name"}
    assert paths == {"model.name"}
