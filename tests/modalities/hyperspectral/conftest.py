"""A cube with structure, and what every format has to survive."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from modalities.base import Arrays, Raw
from modalities.hyperspectral import MODALITY

NM = np.linspace(400, 2500, 7)


@pytest.fixture
def cube() -> NDArray[np.uint16]:
    """(9, 11, 7) uint16, no two values alike."""
    rng = np.random.default_rng(0)
    return rng.permutation(9 * 11 * 7).reshape(9, 11, 7).astype(np.uint16)


@pytest.fixture
def ingest() -> Callable[[Path], Arrays]:
    """A file or folder with its neighbours -> arrays, checked on the way; from bytes and from paths alike."""

    def run(path: Path) -> Arrays:
        both = []
        for held in (False, True):
            raw = raw_of(path, held=held)
            meta = MODALITY.probe(raw)
            files = MODALITY.pack(raw, meta)
            both.append(MODALITY.decode(files))
            same(MODALITY.decode(MODALITY.encode(both[-1])), both[-1])
        same(*both)
        return both[0]

    return run


def raw_of(path: Path, *, held: bool = False) -> Raw:
    """As a source would list it; `held` in memory."""
    if path.is_dir():
        inside = {str(file.relative_to(path)): file for file in sorted(path.rglob("*")) if file.is_file()}
        found = {name: file.read_bytes() if held else file for name, file in inside.items()}
        return Raw(name=f"{path.name}/", content=b"", companions=found)
    beside = {file.name: file for file in sorted(path.parent.iterdir()) if file.is_file() and file != path}
    near = {
        name: file.read_bytes() if held else file
        for name, file in beside.items()
        if name.startswith(path.stem)
    }
    return Raw(name=path.name, content=path.read_bytes() if held else path, companions=near)


def same(one: Arrays, other: Arrays) -> None:
    """Field for field, type for type."""
    assert one.keys() == other.keys()
    for name in one:
        assert one[name].dtype == other[name].dtype, name
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)
