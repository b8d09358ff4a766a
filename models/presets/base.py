"""Find presets and resolve what they inherit."""

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from typing import Any

import models.presets
from models.registry import suggest

SECTIONS = ("stem", "backbone", "head")

Preset = Mapping[str, Any]
# "stem": name of a part, "stem.patch": one of its options (the same for backbone and head);
# "mixers": ({"name": ..., options}, ...) that blocks take in turn; "in_chans", "num_outputs", "init_std";
# "base": the preset that this one changes; "doc": paper, and what departs from it; "modality".


@cache
def presets() -> dict[str, Preset]:
    """Every preset as written, from all files of this folder."""
    found: dict[str, Preset] = {}
    for file in pkgutil.iter_modules(models.presets.__path__):
        if file.name == "base":
            continue
        table: Mapping[str, Preset] = importlib.import_module(f"models.presets.{file.name}").PRESETS
        if twice := found.keys() & table.keys():
            raise ValueError(f"models/presets/{file.name}.py names presets of other files: {sorted(twice)}")
        found.update(table)
    return found


def resolve(name: str) -> dict[str, Any]:
    """The preset with everything it inherits; a section that names another part inherits no options."""
    if name not in presets():
        raise LookupError(f"no model {name!r}; did you mean one of {suggest(name, presets())}?")
    own = dict(presets()[name])
    spec = resolve(own.pop("base")) if "base" in own else {}
    for section in SECTIONS:
        if section in own and own[section] != spec.get(section):
            spec = {key: value for key, value in spec.items() if not key.startswith(f"{section}.")}
    return spec | own
