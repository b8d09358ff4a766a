"""A list of steps from a config, checked when it is made and applied to each sample."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import Any

import numpy as np

import modalities
from modalities.base import Arrays
from pipelines.loading.buffers import Assembly
from pipelines.loading.reading import Contents

Step = str | Mapping[str, Any]  # "flip", or {"flip": {"probability": 0.2}}
Change = Callable[..., Arrays]  # change(arrays, rng, **options) -> arrays
Bound = tuple[Change, Mapping[str, Any]]  # a step and its options


class Chain:
    """The steps of one modality, in order. LookupError and ValueError say which step is wrong, and why.

    A module of steps may have `open(contents)`, which looks at the headers and returns what it found, or
    None; and `start(found, steps, rng, place)`, which decodes with the first steps in mind and returns the
    arrays with the steps that are left, or None where the common way is right.
    """

    def __init__(self, modality: str, steps: Sequence[Step]) -> None:
        module = import_module(f"pipelines.loading.augment.{modality}")
        self.modality = modalities.get(modality)
        self.steps = [_parse(modality, module.STEPS, step) for step in steps]
        self._open, self._start = (getattr(module, name, None) for name in ("open", "start"))

    def open(self, contents: Contents) -> Any:
        """What the headers say, for `arrays`; None where nobody needs it."""
        return self._open(contents) if self._open else None

    def arrays(
        self,
        contents: Contents,
        rng: np.random.Generator | None,
        opened: Any = None,
        assembly: Assembly | None = None,
        at: int = 0,
    ) -> Arrays:
        """Decoded, with what `open` found, and changed; into its slot of `assembly` where no step is left."""
        if opened is not None and self._start:
            place = (lambda name, shape, dtype: assembly.slot(name, at, shape, dtype)) if assembly else None
            if begun := self._start(opened, self.steps, rng, place):
                arrays, left = begun
                return _changed(arrays, left, rng)
        files = {name: bytes(content) for name, content in contents.items()}
        return _changed(self.modality.look(files), self.steps, rng)

    def apply(self, arrays: Arrays, rng: np.random.Generator | None) -> Arrays:
        """The steps on arrays that are decoded already. With steps, `rng` is needed."""
        return _changed(arrays, self.steps, rng)


def _changed(arrays: Arrays, steps: Sequence[Bound], rng: np.random.Generator | None) -> Arrays:
    for change, options in steps:
        arrays = change(arrays, rng, **options)
    return arrays


def _parse(modality: str, known: Mapping[str, Change], step: Step) -> Bound:
    if isinstance(step, str):
        step = {step: {}}
    if len(step) != 1:
        raise ValueError(f"augment: want a name or {{name: options}}, got {dict(step)}")
    ((name, options),) = step.items()
    if name not in known:
        raise LookupError(f"augment: {modality} has no step {name!r}; {_hint(name, known)}")
    there = options_of(known[name])
    for option in options or {}:
        if option not in there:
            raise LookupError(f"augment: {name} has no option {option!r}; {_hint(option, there)}")
    return known[name], dict(options or {})


def options_of(change: Change) -> list[str]:
    """Names of a step's options."""
    parameters = inspect.signature(getattr(change, "plan", change)).parameters.values()
    return [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]


def _hint(name: str, known: Any) -> str:
    near = get_close_matches(name, list(known), n=1)
    return f"did you mean {near[0]!r}?" if near else f"there are {sorted(known)}"
