"""Fixtures for every room."""

from collections.abc import Iterator
from pathlib import Path

import pytest

SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real files with their truths that lie beside the checkout; tests skip without them."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the real files in {SHARED}")
    return SHARED


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """One local Ray for the whole run: it takes seconds to start."""
    from jobs.cluster import cluster

    with cluster(workers=2):
        yield
