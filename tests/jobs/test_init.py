"""`rayloom init` writes files that load as they are."""

from pathlib import Path
from typing import get_args

import pytest

from jobs.config import InferJob, IngestJob, TrainJob, load_job
from jobs.config.schema import JOBS, ModalityName
from jobs.init import EXAMPLES, write


def test_every_file_of_every_modality_loads_and_fits_the_next(tmp_path: Path) -> None:
    files = write(tmp_path / "my jobs")
    assert len(files) == len(EXAMPLES) * len(JOBS)
    assert tuple(EXAMPLES) == get_args(ModalityName)
    for modality in EXAMPLES:
        ingest, train, infer = (load_job(tmp_path / "my jobs" / modality / f"{kind}.yaml") for kind in JOBS)
        assert isinstance(ingest, IngestJob)
        assert isinstance(train, TrainJob)
        assert isinstance(infer, InferJob)
        assert ingest.modality == modality
        assert train.dataset == infer.dataset == ingest.output
        assert infer.checkpoint == train.output


def test_the_models_and_options_they_name_exist(tmp_path: Path) -> None:
    from models import list_models

    for modality, example in EXAMPLES.items():
        assert example.model in list_models(modality)


@pytest.mark.parametrize("modality", EXAMPLES)
def test_commented_lines_are_yaml_too(modality: str, tmp_path: Path) -> None:
    """Taking the comment sign away is all it takes."""
    write(tmp_path)
    for kind in JOBS:
        path = tmp_path / modality / f"{kind}.yaml"
        for line in path.read_text().splitlines():
            field = line.removeprefix("# ")
            if line.startswith("# ") and field.partition(":")[0] in JOBS[kind].model_fields:
                name = field.partition(":")[0]
                path.with_name("tried.yaml").write_text(path.read_text().replace(line, field))
                tried = load_job(path.with_name("tried.yaml"))
                assert f"{name}:" in field
                assert type(tried) is JOBS[kind]


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    written = write(tmp_path)
    written[3].write_text("mine")
    written[0].unlink()
    with pytest.raises(ValueError, match="is there already; give another folder, or --force"):
        write(tmp_path)
    assert not written[0].exists()
    assert written[3].read_text() == "mine"
    write(tmp_path, force=True)
    assert written[3].read_text() != "mine"
