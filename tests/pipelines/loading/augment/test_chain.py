"""Steps named in a config, of every modality."""

import inspect
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import modalities
from pipelines.loading.augment import Chain
from pipelines.loading.augment.chain import options_of
from pipelines.loading.order import sample_rng


def steps_of(modality: str) -> list[str]:
    return sorted(import_module(f"pipelines.loading.augment.{modality}").STEPS)


EVERY = [(modality, step) for modality in modalities.names() for step in steps_of(modality)]


def equal(one: Any, other: Any) -> bool:
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and np.array_equal(one[name], other[name]) for name in one
    )


@pytest.mark.parametrize(("modality", "step"), EVERY)
def test_a_step_is_a_function_of_its_arrays_and_generator(modality: str, step: str) -> None:
    """Twice the same, another seed another result, what came in left as it was, and nothing but numbers."""
    kind = modalities.get(modality)
    arrays = dict(kind.decode(kind.synth(3)))
    before = {name: value.copy() for name, value in arrays.items()}
    chain = Chain(modality, [step])
    results = [chain.apply(arrays, sample_rng(0, 0, str(i % 8))) for i in range(16)]
    assert equal(arrays, before)
    for first, second in zip(results[:8], results[8:], strict=True):
        assert equal(first, second)
    fixed = step in ("center_crop", "resize", "sample") or (modality, step) == ("hyperspectral", "crop")
    assert fixed or not all(equal(results[0], result) for result in results[1:8])


@pytest.mark.parametrize("modality", modalities.names())
def test_prepare_takes_what_all_steps_leave(modality: str) -> None:
    kind = modalities.get(modality)
    arrays = Chain(modality, steps_of(modality)).apply(kind.decode(kind.synth(1)), sample_rng(0, 0, "a"))
    plain = kind.prepare(kind.decode(kind.synth(1)), rng=None)
    prepared = kind.prepare(arrays, rng=None)
    assert prepared.keys() == plain.keys()
    assert all(np.isfinite(value).all() for value in prepared.values())
    assert {name: value.shape for name, value in prepared.items()} == {n: v.shape for n, v in plain.items()}


@pytest.mark.parametrize(("modality", "step"), EVERY)
def test_every_option_has_a_default_and_every_step_a_sentence(modality: str, step: str) -> None:
    change = import_module(f"pipelines.loading.augment.{modality}").STEPS[step]
    function = getattr(change, "plan", change)
    parameters = inspect.signature(function).parameters
    assert all(parameters[name].default is not inspect.Parameter.empty for name in options_of(change))
    assert inspect.getdoc(function)


def test_the_guide_lists_every_step_with_its_options() -> None:
    guide = Path(__file__).parents[4] / "docs/guide/loading.md"
    rows = re.findall(r"^\| (\w+) \| (\w+) \| (.*?) ?\|$", guide.read_text(), re.MULTILINE)
    listed = {
        (modality, step): re.findall(r"`(\w+)`", options)
        for modality, step, options in rows
        if step != "step"
    }
    there = {
        (modality, step): options_of(import_module(f"pipelines.loading.augment.{modality}").STEPS[step])
        for modality, step in EVERY
    }
    assert listed == there


def test_mistakes_suggest_what_was_meant() -> None:
    with pytest.raises(LookupError, match=r"image has no step 'colur'; did you mean 'colour'?"):
        Chain("image", ["colur"])
    with pytest.raises(LookupError, match=r"flip has no option 'probabilty'; did you mean 'probability'?"):
        Chain("image", [{"flip": {"probabilty": 1}}])
    with pytest.raises(ValueError, match="want a name or"):
        Chain("image", [{"flip": {}, "grey": {}}])
