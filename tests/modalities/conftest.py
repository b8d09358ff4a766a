"""What tests of every modality use."""

from collections.abc import Callable
from typing import Any

import pytest

from modalities.base import BadSample


@pytest.fixture(scope="session")
def refuses() -> Callable[[Callable[[], Any]], bool]:
    """Whether some work raises BadSample; any other error goes through."""

    def refused(work: Callable[[], Any]) -> bool:
        try:
            work()
        except BadSample:
            return True
        return False

    return refused
