"""Every backend computes what local attention means, values and gradients."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from models.ops.local import LOCAL, Windows, local_attention
from models.ops.local.reference import reference

CASES = {
    "windows": ((9, 14), (7, 7), {}),
    "shifted": ((9, 14), (4, 7), {"shifted": True}),
    "small axis": ((3, 14), (7, 7), {"shifted": True}),
    "stripes": ((6, 11), (6, 3), {}),
    "axial": ((5, 12), (1, 12), {}),
    "grid": ((9, 14), (3, 4), {"strided": True}),
    "time": ((6, 4, 5), (6, 1, 1), {}),
    "clips": ((5, 6, 7), (2, 3, 4), {"shifted": True}),
    "sequence": ((23,), (8,), {"shifted": True}),
    "many keys": ((10, 11), (10, 11), {}),
}


def given(case: str, dtype: torch.dtype = torch.float64, seed: int = 0) -> tuple[list[Tensor], Windows]:
    """q, k, v as views of one tensor, and a bias table for windows larger than those in use."""
    grid, size, options = CASES[case]
    draw = torch.Generator().manual_seed(seed)
    windows = Windows.of(grid, size, **options)
    rows = 1
    for w in windows.largest:
        rows *= 2 * w - 1
    qkv = torch.randn(2, *grid, 3, 2, 8, generator=draw, dtype=torch.float64).to(dtype)
    table = torch.randn(rows, 2, generator=draw, dtype=torch.float64).to(dtype)
    return [*qkv.unbind(-3), table], windows


def outcome(run: Any, tensors: list[Tensor], windows: Windows, **options: Any) -> list[Tensor]:
    """Output, and the gradients of everything that may be trained."""
    leaves = [t.detach().clone().requires_grad_() for t in tensors]
    y = run(*leaves, windows, **options)
    seed = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(y.dtype)
    mask = options.get("mask")
    if mask is not None:  # what comes out at hidden places is nobody's business
        seed = seed * mask.view(*seed.shape[:-2], 1, 1)
        y = y * mask.view(*seed.shape[:-2], 1, 1)
    return [y.detach(), *torch.autograd.grad(y, leaves, seed)]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("masked", [False, True])
def test_windows_equal_dense_attention_under_the_mask_they_mean(case: str, masked: bool) -> None:
    tensors, windows = given(case)
    options = {"mask": some_mask(tensors[0])} if masked else {}
    for got, want in zip(
        outcome(local_attention, tensors, windows, **options),
        outcome(reference, tensors, windows, **options),
        strict=True,
    ):
        assert_close(got, want)


def some_mask(q: Tensor) -> Tensor:
    n = q[0, ..., 0, 0].numel()
    return torch.rand(q.shape[0], n, generator=torch.Generator().manual_seed(5)) < 0.8


@pytest.mark.parametrize("case", ["shifted", "grid", "clips"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_errors_are_at_most_twice_those_of_the_plain_form(case: str, dtype: torch.dtype) -> None:
    exact = outcome(reference, *given(case))
    plain, fast = (outcome(run, *given(case, dtype)) for run in (reference, local_attention))
    for want, eager, got in zip(exact, plain, fast, strict=True):
        assert (got - want).norm() <= 2 * (eager - want).norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_largest_errors_are_at_most_twice_those_of_the_plain_form(dtype: torch.dtype) -> None:
    # Of one draw the ratio of two maxima over few sums is luck, up to 2.1; so is not that over several.
    worst = torch.zeros(2, 5, dtype=torch.float64)  # eager and ours; output and four gradients
    for seed in range(8):
        exact = outcome(reference, *given("shifted", seed=seed))
        for i, run in enumerate((reference, local_attention)):
            got = outcome(run, *given("shifted", dtype, seed))
            errors = [(a - b).abs().max() for a, b in zip(got, exact, strict=True)]
            worst[i] += torch.stack(errors).square()
    assert (worst[1].sqrt() <= 1.5 * worst[0].sqrt()).all()


@pytest.mark.parametrize("case", ["windows", "shifted", "clips"])
def test_what_lies_beyond_the_raster_takes_part_if_given(case: str) -> None:
    tensors, windows = given(case)
    pad = (torch.randn(2, 8, dtype=torch.float64), torch.randn(2, 8, dtype=torch.float64))
    for got, want in zip(
        outcome(local_attention, tensors, windows, pad=pad),
        outcome(reference, tensors, windows, pad=pad),
        strict=True,
    ):
        assert_close(got, want)


def test_gradients_are_those_of_the_function() -> None:
    tensors, _ = given("shifted")
    leaves = [t[:1, :5, :3, :1, :2].detach().clone().requires_grad_() for t in tensors[:3]]
    windows = Windows.of((5, 3), (4, 2), shifted=True)
    table = tensors[3][: 7 * 3, :1].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda *args: local_attention(*args, windows), (*leaves, table))


def test_windows_refuse_what_makes_no_sense() -> None:
    with pytest.raises(ValueError, match="0 <= shift < size <= largest"):
        Windows((4,), (4,), (False,), (4,))
    with pytest.raises(ValueError, match="the same in every field"):
        Windows((4, 4), (0,), (False,), (4,))


def test_says_which_backend_was_taken_and_why_others_were_not() -> None:
    tensors, windows = given("windows")
    text = LOCAL.explain(*tensors, windows)
    assert "windows    taken" in text
    assert "triton     refused: " in text
    assert "got cpu" in text or "not installed" in text
    with pytest.raises(ValueError, match="backend 'triton' was asked for, but"), LOCAL.force("triton"):
        local_attention(*tensors, windows)


def test_autotune_pins_what_it_found() -> None:
    tensors, windows = given("windows")
    found = LOCAL.autotune(*tensors, windows)
    assert found["backend"] == "windows"
    assert set(found["seconds"]) == {"windows"}
    pins = dict(LOCAL.pins)
    LOCAL.pins.clear()
    LOCAL.pin([found, {**found, "op": "another"}, {**found, "torch": "0.1", "facts": "old"}])
    assert LOCAL.pins == pins
    LOCAL.pins.clear()


KERNEL = """
import torch
from torch.testing import assert_close
from tests_local import CASES, given, outcome, some_mask
from models.ops.local.reference import reference
from models.ops.local.triton import run

for number, case in enumerate(["shifted", "axial", "grid", "clips", "sequence", "many keys"]):
    (q, k, v, table), windows = given(case, torch.float32)
    full = case == "clips"  # the interpreter takes milliseconds a program: one case has it all
    tensors = [q, k, v, table] if full else [t[:1, ..., :1, :] for t in (q, k, v)] + [table[:, :1]]
    options = {"mask": some_mask(tensors[0]), "scale": 0.7} if full or number % 2 else {}
    got = outcome(run, tensors, windows, **options)
    want = outcome(reference, [t.double() for t in tensors], windows, **options)
    for a, b in zip(got, want, strict=True):
        assert_close(a.double(), b, atol=2e-5, rtol=2e-5, msg=lambda m: f"{case} {options}: {m}")
q, k, v, _ = tensors
assert_close(run(q, k, v, None, windows), reference(q, k, v, None, windows), atol=1e-5, rtol=1e-5)
print("kernels agree")
"""


def test_triton_kernels_equal_the_reference_in_the_interpreter(tmp_path: Any) -> None:
    pytest.importorskip("triton")
    (tmp_path / "tests_local.py").write_text(Path(__file__).read_text(encoding="utf-8"), encoding="utf-8")
    environment = {
        **os.environ,
        "TRITON_INTERPRET": "1",  # read when triton is imported: a process of its own
        "PYTHONPATH": os.pathsep.join([str(tmp_path), os.getcwd()]),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", KERNEL], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "kernels agree", done.stderr[-3000:]
