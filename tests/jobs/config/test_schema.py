"""The minimal job files are a public contract; the digest says what changes a result."""

import json
import pickle
from pathlib import Path

import pytest
import yaml

from jobs.config import ConfigError, InferJob, IngestJob, TrainJob, load_job

INGEST = """\
kind: ingest            # modality: image | video | pointcloud | hyperspectral | lighting
modality: image
source: {uri: DIR_OR_URL}
output: DATASET
"""
TRAIN = """\
kind: train
dataset: DATASET
task: classification    # regression | segmentation | masked
model: {name: swin_tiny}
steps: 100
output: RUN
"""
INFER = """\
kind: infer
dataset: DATASET
checkpoint: RUN
output: PREDICTIONS
"""


@pytest.fixture
def job_file(tmp_path: Path) -> Path:
    return tmp_path / "job.yaml"


@pytest.mark.parametrize(("text", "kind"), [(INGEST, IngestJob), (TRAIN, TrainJob), (INFER, InferJob)])
def test_the_minimal_files_load_and_keep_what_they_say(text: str, kind: type, job_file: Path) -> None:
    job_file.write_text(text)
    job = load_job(job_file)
    assert type(job) is kind
    said = yaml.safe_load(text)  # an independent reader
    resolved = job.resolved()
    for name, value in said.items():
        assert (
            (resolved[name].items() >= value.items()) if isinstance(value, dict) else resolved[name] == value
        )
    assert kind.model_validate(json.loads(json.dumps(resolved))) == job
    assert pickle.loads(pickle.dumps(job)) == job


@pytest.mark.parametrize("modality", ["image", "video", "pointcloud", "hyperspectral", "lighting"])
def test_every_modality_is_taken(modality: str, job_file: Path) -> None:
    job_file.write_text(INGEST)
    job = load_job(job_file, [f"modality={modality}"])
    assert isinstance(job, IngestJob)
    assert job.modality == modality


@pytest.mark.parametrize(
    ("text", "override"),
    [
        (INGEST, "output=elsewhere"), (INGEST, "source.uri=s3://bucket/raw"), (INGEST, "workers=3"),
        (INGEST, "source.anonymous=true"), (INGEST, "quarantine.max_share=0.1"), (TRAIN, "dataset=other"),
        (TRAIN, "workers=2"), (TRAIN, "loader_workers=4"), (TRAIN, "checkpoint_every=7"),
        (TRAIN, "resume=false"), (TRAIN, "parallel=fsdp"), (TRAIN, "min_workers=1"), (TRAIN, "skip_bad=true"),
        (TRAIN, "trackers=[mlflow]"),
        (INFER, "checkpoint=other"), (INFER, "batch_size=1"),
    ],
)  # fmt: skip
def test_places_and_workers_leave_the_digest_alone(text: str, override: str, job_file: Path) -> None:
    job_file.write_text(text)
    assert load_job(job_file, [override]).digest() == load_job(job_file).digest()
    assert load_job(job_file, [override]) != load_job(job_file)


@pytest.mark.parametrize(
    ("text", "override"),
    [
        (INGEST, "modality=video"), (INGEST, "source.labels=none"), (INGEST, "source.glob='*.jpg'"),
        (INGEST, "seed=1"),
        (INGEST, "shards.max_bytes=1MiB"), (INGEST, "shards.shuffle=false"), (INGEST, "split.val=0.1"),
        (INGEST, "dedup=exact"), (INGEST, "decode=false"),
        (INGEST, "stages=[{kind: filter, field: label, one_of: [a]}]"),
        (TRAIN, "task=masked"), (TRAIN, "model.options.depth=3"), (TRAIN, "steps=99"),
        (TRAIN, "data.size=64"),
        (TRAIN, "precision=bf16"), (TRAIN, "learning_rate=1e-4"), (INFER, "split=val"), (TRAIN, "tail=true"),
        (TRAIN, "blend.mixup=0.2"), (TRAIN, "open_shards=null"),
        (TRAIN, "more=[{dataset: other, task: masked}]"),
    ],
)  # fmt: skip
def test_what_changes_the_result_changes_the_digest(text: str, override: str, job_file: Path) -> None:
    job_file.write_text(text)
    assert load_job(job_file, [override]).digest() != load_job(job_file).digest()


def test_the_digest_is_stable(job_file: Path) -> None:
    """Manifests and checkpoints hold it: a change here starts every run anew, so it must be meant."""
    job_file.write_text(INFER)
    import blake3

    assert (
        load_job(job_file).digest()
        == blake3.blake3(b'{"kind":"infer","pick":"last","split":null,"weights":"averaged"}').hexdigest()
    )


@pytest.mark.parametrize(
    ("size", "expected"),
    [("256MiB", 2**28), ("1.5GB", 1_500_000_000), ("64 kib", 65536), ("12", 12), ("5B", 5), ("1TB", 10**12)],
)
def test_sizes_have_units(size: str, expected: int, job_file: Path) -> None:
    job_file.write_text(INGEST)
    job = load_job(job_file, [f"shards.max_bytes={size}"])
    assert isinstance(job, IngestJob)
    assert job.shards.max_bytes == expected


def test_options_may_be_written_dotted_or_nested(job_file: Path) -> None:
    job_file.write_text(TRAIN)
    nested = load_job(job_file, ["model.options.head.unit=true", "model.options.dims=[1, 2]"])
    flat = load_job(job_file, ["model.options={head.unit: true, dims: [1, 2]}"])
    assert nested == flat
    assert isinstance(flat, TrainJob)
    assert flat.model.options == {"head.unit": True, "dims": (1, 2)}


def test_a_job_cannot_be_changed(job_file: Path) -> None:
    job_file.write_text(TRAIN)
    job = load_job(job_file)
    with pytest.raises(ValueError, match="frozen"):
        job.steps = 3  # type: ignore[union-attr, misc]


@pytest.mark.parametrize(("steps", "warmup", "expected"), [(100, "null", 5), (100, "7", 7), (10, "null", 0)])
def test_warm_up_is_a_twentieth_of_training(steps: int, warmup: str, expected: int, job_file: Path) -> None:
    job_file.write_text(TRAIN)
    job = load_job(job_file, [f"steps={steps}", f"warmup_steps={warmup}"])
    assert isinstance(job, TrainJob)
    assert job.num_warmup_steps == expected


@pytest.mark.parametrize(
    "place",
    ["raw", "/abs/raw", "../raw", "raw files/a", "file:///a", "s3://b/c", "gs://b", "az://c/d",
     "abfs://c@account.dfs.core.windows.net/d", "https://host/a.tar"],
)  # fmt: skip
def test_places_of_known_schemes_are_taken_as_they_are(place: str, job_file: Path) -> None:
    job_file.write_text(INGEST)
    job = load_job(job_file, [f"source.uri={json.dumps(place)}"])
    assert isinstance(job, IngestJob)
    assert job.source.uri == place


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["workers=2", "min_workers=3"], "min_workers is 3, more than workers, which is 2"),
        (["workers=4", "min_workers=2"], "batch_size 16 does not divide among 3 workers"),
        (["workers=2", "accumulate=3"], "accumulate 3 does not divide the 8 samples"),
        (["task=masked", "blend.mixup=0.2"], "blend is for task: classification, and task is masked"),
        (["tail=true", "more=[{dataset: other}]"], "tail follows one dataset"),
        (["parallel=fsdp", "precision=fp16"], "fsdp takes precision bf16 or fp32"),
        (["blend.mixup=0"], "blend.mixup"),
        (["blend.cutout=1.0"], "blend"),
        (["trackers=[tensorbord]"], "did you mean 'tensorboard'"),
    ],
)
def test_options_that_exclude_each_other_are_refused(
    overrides: list[str], words: str, job_file: Path
) -> None:
    job_file.write_text(TRAIN)
    with pytest.raises(ConfigError, match=words):
        load_job(job_file, overrides)
