"""Fixtures for every room."""

import sys
from collections.abc import Iterator
from multiprocessing.util import get_temp_dir
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A busy machine is no failure: neither a single example's time nor that of drawing them is judged.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.fixture(autouse=True)
def stores_of_its_own() -> Iterator[None]:
    """fsspec keeps its clients by what they were asked for, and with them the credentials of that moment."""
    yield
    if "s3fs" in sys.modules:
        sys.modules["s3fs"].S3FileSystem.clear_instance_cache()


SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real files with their truths that lie beside the checkout; tests skip without them."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the real files in {SHARED}")
    return SHARED


@pytest.fixture(scope="session")
def ray_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One local Ray for the whole run: it takes seconds to start."""
    from jobs.cluster import cluster

    # Made before the job's own folder, which goes with it, takes the place of the temporary one.
    tmp_path_factory.getbasetemp()
    get_temp_dir()

    with cluster(workers=2):
        yield
