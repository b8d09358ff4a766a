"""Find presets and resolve what they inherit."""

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from types import ModuleType
from typing import Any

import models.presets
from models.registry import suggest

SECTIONS = ("stem", "backbone", "neck", "head")  # "block.norm" and such are options of every Block

PARTS = ("backbone", "token_mixer", "channel_mixer", "norm", "position", "tokenizer")  # what a system brings

Preset = Mapping[str, Any]
# "stem": name of a part, "stem.patch": one of its options (the same for backbone, neck and head;
# a model may have no neck);
# "mixers": ({"name": ..., options}, ...) that blocks take in turn, or such a tuple for each stage; an item
# may change its own block: {"name": "pool", "block": {"norm": "group"}};
# "in_chans", "num_outputs", "init_std", "norms" (the form that models/recentre.py gives them);
# "millions": parameters as published (the paper prints few digits: say in "doc" where it was counted);
# "base": the preset that this one changes; "doc": paper, and what departs from it; "modality".


def families() -> list[str]:
    """Names of all preset files. One is named after its system where it holds one."""
    return sorted(f.name for f in pkgutil.iter_modules(models.presets.__path__) if f.name != "base")


@cache
def systems() -> tuple[str, ...]:
    """Published systems: preset files that say which PART of a network they bring."""
    return tuple(name for name in families() if hasattr(module_of(name), "PART"))


@cache
def module_of(family: str) -> ModuleType:
    """A preset file; a PART that names none of PARTS is a ValueError."""
    module = importlib.import_module(f"models.presets.{family}")
    if hasattr(module, "PART") and module.PART not in PARTS:
        raise ValueError(f"PART of models/presets/{family}.py must be one of {PARTS}, got {module.PART!r}")
    return module


def mixer_of(system: str) -> str | None:
    """The token mixer that a system brought: the first of its first preset."""
    first = resolve(next(iter(module_of(system).PRESETS)))["mixers"]
    flat = [m for item in first for m in ([item] if isinstance(item, Mapping) else item)]
    return next((m["name"] for m in flat if m["name"] is not None), None)


@cache
def presets() -> dict[str, Preset]:
    """Every preset as written, from all files of this folder."""
    found: dict[str, Preset] = {}
    for family in families():
        table: Mapping[str, Preset] = module_of(family).PRESETS
        if twice := found.keys() & table.keys():
            raise ValueError(f"models/presets/{family}.py names presets of other files: {sorted(twice)}")
        found.update(table)
    return found


def file_of(name: str) -> str:
    """The module that holds a preset."""
    for family in families():
        if name in (module := module_of(family)).PRESETS:
            return module.__name__
    raise LookupError(f"no model {name!r}; did you mean one of {suggest(name, presets())}?")


def resolve(name: str) -> dict[str, Any]:
    """The preset with everything it inherits; a section that names another part inherits no options.

    The short name of a system stands for its first preset.
    """
    if name not in presets() and name in systems():
        name = next(iter(module_of(name).PRESETS))
    if name not in presets():
        raise LookupError(f"no model {name!r}; did you mean one of {suggest(name, presets())}?")
    own = dict(presets()[name])
    spec = resolve(own.pop("base")) if "base" in own else {}
    spec.pop("millions", None)  # a preset that changes another has a size of its own
    for section in SECTIONS:
        if section in own and own[section] != spec.get(section):
            spec = {key: value for key, value in spec.items() if not key.startswith(f"{section}.")}
    return spec | own
