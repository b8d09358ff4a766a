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


class Chain:
    """The steps of one modality, in order. LookupError and ValueError say which step is wrong, and why."""

    def __init__(self, modality: str, steps: Sequence[Step]) -> None:
        self.modality = modality
        self.steps = [_parse(modality, step) for step in steps]

    def arrays(
        self,
        contents: Contents,
        rng: np.random.Generator | None,
        assembly: Assembly | None = None,
        at: int = 0,
    ) -> Arrays:
        """Decoded and changed; straight into slot `at` of `assembly` where nothing is left to change."""
        kind = modalities.get(self.modality)
        arrays: Arrays = kind.look({name: bytes(content) for name, content in contents.items()})
        return self.apply(arrays, rng)

    def apply(self, arrays: Arrays, rng: np.random.Generator | None) -> Arrays:
        """The steps on arrays that are decoded already. With steps, `rng` is needed."""
        for change, options in self.steps:
            arrays = change(arrays, rng, **options)
        return arrays


def steps_of(modality: str) -> Mapping[str, Change]:
    """Every step of a modality by name."""
    known: Mapping[str, Change] = import_module(f"pipelines.loading.augment.{modality}").STEPS
    return known


def _parse(modality: str, step: Step) -> tuple[Change, Mapping[str, Any]]:
    if isinstance(step, str):
        step = {step: {}}
    if len(step) != 1:
        raise ValueError(f"augment: want a name or {{name: options}}, got {dict(step)}")
    ((name, options),) = step.items()
    known = steps_of(modality)
    if name not in known:
        raise LookupError(f"augment: {modality} has no step {name!r}; {_hint(name, known)}")
    there = [p for p, q in inspect.signature(known[name]).parameters.items() if q.kind is q.KEYWORD_ONLY]
    for option in options or {}:
        if option not in there:
            raise LookupError(f"augment: {name} has no option {option!r}; {_hint(option, there)}")
    return known[name], dict(options or {})


def _hint(name: str, known: Any) -> str:
    near = get_close_matches(name, list(known), n=1)
    return f"did you mean {near[0]!r}?" if near else f"there are {sorted(known)}"
