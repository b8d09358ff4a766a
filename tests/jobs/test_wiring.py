"""What a training job is told before it reads a sample."""

from pathlib import Path

import pytest

from jobs.config.schema import TrainJob
from jobs.wiring import task_spec
from pipelines.shards.dataset import Dataset
from pipelines.shards.manifest import Books, Manifest
from pipelines.shards.storage import open_storage


def check(model: str, modality: str, folder: Path) -> None:
    """The dataset has no samples: whoever gets as far as to read one finds none."""
    manifest = Manifest(
        number=0, parent=None, modality=modality, settings="", plans=[], classes=[], books=Books(), shards=[],
        job={},
    )  # fmt: skip
    job = TrainJob.model_validate(
        {
            "kind": "train", "dataset": "data", "task": "masked", "model": {"name": model}, "steps": 1,
            "output": "run",
        }
    )  # fmt: skip
    task_spec(job, Dataset(open_storage(str(folder)), manifest))


@pytest.mark.parametrize(
    ("model", "modality", "words"),
    [
        ("video_nano", "image", "video_nano takes video data, and data holds image.*window_nano"),
        ("window_nano", "video", "window_nano takes image data, and data holds video.*video_nano"),
        ("points_nano", "hyperspectral", "takes pointcloud data.*spectral_nano"),
        ("spectral_nano", "lighting", "takes hyperspectral data.*light_nano"),
    ],
)
def test_a_model_of_another_kind_of_data_is_refused_with_both_named(
    model: str, modality: str, words: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=words):
        check(model, modality, tmp_path)


def test_an_unknown_model_is_answered_with_near_names(tmp_path: Path) -> None:
    with pytest.raises(LookupError, match=r"no model 'windw_nano'; did you mean .*window_nano"):
        check("windw_nano", "image", tmp_path)


@pytest.mark.parametrize(("model", "modality"), [("window_nano", "image"), ("video_nano", "lighting")])
def test_a_model_that_fits_gets_to_the_samples(model: str, modality: str, tmp_path: Path) -> None:
    with pytest.raises((StopIteration, ValueError, LookupError)) as caught:
        check(model, modality, tmp_path)
    assert "takes" not in str(caught.value)
