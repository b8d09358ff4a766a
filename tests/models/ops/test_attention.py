import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from models.ops.attention import ATTENTION, attend, by_matmul, facts, open_empty_rows


def given(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 2, 4, 37, 16, generator=draw, dtype=torch.float64).to(dtype)
    return q, k, v, torch.randn(1, 4, 37, 37, generator=draw, dtype=torch.float64).to(dtype)


def test_equals_the_formula() -> None:
    q, k, v, bias = given()
    want = (q @ k.mT / 16**0.5 + bias).softmax(-1) @ v
    assert_close(attend(q, k, v, bias), want)
    allowed = bias > 0
    want = (q @ k.mT / 16**0.5).masked_fill(~allowed, -torch.inf).softmax(-1) @ v
    assert_close(attend(q, k, v, allowed), want)


@pytest.mark.parametrize("name", ["sdpa", "matmul"])
def test_backends_give_the_same_values_and_gradients(name: str) -> None:
    q, k, v, bias = given()
    inputs = [t.requires_grad_() for t in (q, k, v)]
    with ATTENTION.force(name):
        got = torch.autograd.grad(attend(*inputs, bias).sin().sum(), inputs)
    want = torch.autograd.grad(by_matmul(*inputs, bias).sin().sum(), inputs)
    assert_close(got, want)


@pytest.mark.parametrize("name", ["sdpa", "matmul"])
def test_error_in_bfloat16_is_at_most_twice_that_of_the_plain_form(name: str) -> None:
    exact = by_matmul(*given())
    given16 = given(torch.bfloat16)
    plain = (by_matmul(*given16).double() - exact).abs().max()
    with ATTENTION.force(name):
        error = (attend(*given16).double() - exact).abs().max()
    assert error <= 2 * plain


def test_a_bias_that_is_trained_on_a_cpu_goes_by_the_formula() -> None:
    q, k, v, bias = given()
    assert ATTENTION.choose(facts(q, k, v, bias)).name == "sdpa"
    bias.requires_grad_()
    assert ATTENTION.choose(facts(q, k, v, bias)).name == "matmul"
    assert "sdpa       refused: a bias that is trained" in ATTENTION.explain(q, k, v, bias)
    with torch.no_grad():
        assert ATTENTION.choose(facts(q, k, v, bias)).name == "sdpa"


def test_masked_attention_at_faulty_lengths_keeps_off_cudnn() -> None:
    q, k, v, bias = given()
    known = facts(q, k, v, bias)._replace(device="cuda", keys=192)
    assert ATTENTION.choose(known).name == "efficient"
    assert ATTENTION.choose(known._replace(keys=196)).name == "sdpa"
    assert ATTENTION.choose(known._replace(masked=False)).name == "sdpa"


def test_choosing_breaks_no_graph() -> None:
    q, k, v, bias = given()
    whole = torch.compile(attend, backend="eager", fullgraph=True)
    assert_close(whole(q, k, v, bias), attend(q, k, v, bias))


def test_a_query_that_may_see_nothing_sees_everything() -> None:
    allowed = torch.tensor([[True, False], [False, False]])
    assert open_empty_rows(allowed).tolist() == [[True, False], [True, True]]
