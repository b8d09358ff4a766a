"""What an ingest job refuses before any work starts."""

from pathlib import Path

import pytest

from jobs.config.schema import IngestJob
from jobs.ingest import ingest_dataset


def job(source: str, output: str) -> IngestJob:
    return IngestJob.model_validate(
        {"kind": "ingest", "modality": "image", "source": {"uri": source}, "output": output}
    )


@pytest.mark.parametrize(
    ("source", "output"),
    [
        ("{root}", "{root}/data"),
        ("{root}/", "{root}"),
        ("{root}/../my photos", "{root}/a/b"),
        ("{root}/*/x.jpg", "{root}/a"),
        ("{root}/**/*.jpg", "{root}/data"),
        ("file://{url}", "{root}/data"),
        ("{link}", "{root}/data"),
        ("{root}", "{link}/data"),
        ("s3://bucket/photos/", "s3://bucket/photos/data"),
    ],
)
def test_an_output_inside_the_source_is_refused(source: str, output: str, tmp_path: Path) -> None:
    root = tmp_path / "my photos"
    root.joinpath("a").mkdir(parents=True)
    root.joinpath("x.jpg").write_bytes(b"")
    link = tmp_path / "link"
    link.symlink_to(root)
    places = {"root": str(root), "url": str(root).replace(" ", "%20"), "link": str(link)}
    with pytest.raises(ValueError, match="lies in the source"):
        ingest_dataset(job(source.format(**places), output.format(**places)))
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "link", "my photos", "x.jpg"]


@pytest.mark.parametrize(
    ("source", "output"),
    [
        ("{root}/shards", "{root}"),
        ("{root}/shards/mine-000.tar", "{root}/"),
        ("{root}/shards/*.tar", "{link}"),
        ("s3://bucket/runs/1", "s3://bucket"),
    ],
)
def test_a_source_where_the_dataset_keeps_its_own_is_refused(
    source: str, output: str, tmp_path: Path
) -> None:
    """gc would remove it, and the next run take the dataset's own shards for new data."""
    root = tmp_path / "data"
    root.joinpath("shards").mkdir(parents=True)
    root.joinpath("shards/mine-000.tar").write_bytes(bytes(10240))
    link = tmp_path / "link"
    link.symlink_to(root)
    places = {"root": str(root), "link": str(link)}
    with pytest.raises(ValueError, match="lies in what output"):
        ingest_dataset(job(source.format(**places), output.format(**places)))
    assert sorted(path.name for path in root.rglob("*")) == ["mine-000.tar", "shards"]


def test_an_output_beside_the_source_is_none_of_its(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(
        FileNotFoundError, match="nothing to ingest"
    ):  # the guard let it by, the folder is empty
        ingest_dataset(job(str(tmp_path / "photos"), str(tmp_path / "photos-out")))
