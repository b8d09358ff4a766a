"""Fixtures for every room."""

from pathlib import Path

import pytest

SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real files with their truths that lie beside the checkout; tests skip without them."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the real files in {SHARED}")
    return SHARED
