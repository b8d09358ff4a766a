from collections.abc import Callable
from pathlib import Path

import pytest

from modalities.base import Files, Raw
from modalities.lighting.probe import PATTERNS


@pytest.fixture
def folder() -> Callable[[Files], Raw]:
    """Files as one object of a source; labels stay behind."""

    def build(files: Files) -> Raw:
        name = next(n for n in PATTERNS if n in files)
        beside = {n: c for n, c in files.items() if n not in (name, "cls")}
        return Raw(name=f"scene/{name}", content=files[name], companions=beside)

    return build


@pytest.fixture
def bunny(shared_data: Path) -> Raw:
    root = shared_data / "lighting" / "bunny"
    beside = {path.name: path for path in root.iterdir() if path.name != "lights.npy"}
    return Raw(name="bunny/lights.npy", content=root / "lights.npy", companions=beside)
