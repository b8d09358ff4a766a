import pytest
import torch
from torch.testing import assert_close

from models.ops.retention import chunkwise, decay_between, parallel, recurrent


@pytest.mark.parametrize("per_step", [False, True])
def test_three_forms_agree_with_their_gradients(per_step: bool) -> None:
    draw = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 2, 3, 23, 4, dtype=torch.float64, generator=draw)
    v = torch.randn(2, 3, 23, 5, dtype=torch.float64, generator=draw)
    gates = torch.rand(2, 3, 23, dtype=torch.float64, generator=draw) * 0.9 + 0.1
    if not per_step:
        gates = torch.tensor([0.5, 0.9, 1.0], dtype=torch.float64)[:, None].expand(3, 23)
    inputs = [t.clone().requires_grad_() for t in (q, k, v, gates.log())]
    want = recurrent(*inputs)
    wanted = torch.autograd.grad(want.square().sum(), inputs)
    others = [parallel(*inputs), *(chunkwise(*inputs, chunk=c) for c in (1, 5, 23, 40))]
    for got in others:
        assert_close(got, want, atol=1e-10, rtol=1e-10)
        grads = torch.autograd.grad(got.square().sum(), inputs)
        assert_close(grads, wanted, atol=1e-9, rtol=1e-9)


def test_a_step_decays_by_the_gates_after_it() -> None:
    gates = torch.tensor([0.5, 0.2, 0.1], dtype=torch.float64)
    want = torch.tensor([[1, 0, 0], [0.2, 1, 0], [0.02, 0.1, 1]], dtype=torch.float64)
    assert_close(decay_between(gates.log()), want)
