"""What a hostile case is, and how the builders of other tests are taken in."""

import importlib.util
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

TESTS = Path(__file__).parents[1]
KEPT = "kept"  # in place of a reason: the lie is of no consequence, the object is used


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where one case is built. `url` is a listener on this machine that nobody may call."""

    root: Path  # the source
    outside: Path  # beside it: a file nobody may read, a file that must not appear
    url: str

    @property
    def canary(self) -> Path:
        return self.outside / "canary"

    @property
    def marker(self) -> Path:
        return self.outside / "marker"


@dataclass(frozen=True, kw_only=True)
class Case:
    """One hostile file, or a few that are hostile together.

    reason: of every entry it makes. library: which reader of libraries.py people would give it to; file: its
    name there. source: what the job names, "" for the folder.
    """

    name: str
    about: str
    modality: str
    reason: str
    library: str
    make: Callable[[Place], None]
    file: str
    source: str = ""


def stored(file: str, content: bytes | Callable[[Place], bytes]) -> Callable[[Place], None]:
    """Writes one file."""

    def make(place: Place) -> None:
        path = place.root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content(place) if callable(content) else content)

    return make


class _Payload:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> object:
        return (Path.touch, (self.path,))


def pickled(place: Place) -> bytes:
    """A pickle that makes the marker appear where it is loaded."""
    return pickle.dumps(_Payload(place.marker))


@cache
def builders(test: str) -> ModuleType:
    """A module of tests, for what it builds files with: "modalities/image/test_probe.py"."""
    name = "rayloom_" + test.removesuffix(".py").replace("/", "_")
    spec = importlib.util.spec_from_file_location(name, TESTS / test)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
