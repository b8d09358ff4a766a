"""Kinds of data. `get("hyperspectral")` imports `modalities/hyperspectral/`, and only that."""

from difflib import get_close_matches
from functools import cache
from importlib import import_module
from pathlib import Path

from modalities.base import Modality


def names() -> list[str]:
    """Every modality on disk, sorted. Imports none of them."""
    return sorted(path.parent.name for path in Path(__file__).parent.glob("*/__init__.py"))


@cache  # asked for every sample; an unknown name is looked for again
def get(name: str) -> Modality:
    """Import one modality by the name of its folder."""
    if name not in names():
        near = get_close_matches(name, names(), n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {names()}"
        raise LookupError(f"no modality {name!r}; {hint}")
    modality: Modality = import_module(f"modalities.{name}").MODALITY
    return modality
