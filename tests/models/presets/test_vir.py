"""vir: three forms of retention agree, none sees the future, and the class token, last, sees every patch."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from models import create_model
from models.layout import Layout
from models.mixers.retention import Retention
from models.ops.retention import decay_between, parallel, step


@pytest.mark.parametrize("chunk", [1, 4, 9, 23, 64])
def test_vir_parallel_recurrent_and_chunkwise_agree(chunk: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 23, 16, dtype=torch.float64)
    forms = [Retention(16, head_dim=8, form=f, chunk=chunk).double() for f in ("parallel", "recurrent")]
    forms.append(Retention(16, head_dim=8, form="chunkwise", chunk=chunk).double())
    for form in forms[1:]:
        form.load_state_dict(forms[0].state_dict())
    with torch.no_grad():
        want = forms[0](x, Layout())
        for form in forms[1:]:
            assert_close(form(x, Layout()), want, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("form", ["parallel", "recurrent", "chunkwise"])
def test_vir_gradient_from_the_future_is_exactly_zero(form: str) -> None:
    torch.manual_seed(0)
    mixer = Retention(16, head_dim=8, form=form, chunk=5).double()
    x = torch.randn(1, 12, 16, dtype=torch.float64, requires_grad=True)
    for i in (0, 4, 7):
        (grad,) = torch.autograd.grad(mixer(x, Layout())[:, i].square().sum(), x)
        assert (grad[:, i + 1 :] == 0).all()
        assert grad[:, : i + 1].any(-1).all()


def test_vir_state_does_not_grow_with_the_sequence() -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 40, 4, dtype=torch.float64)
    decay = torch.full((40,), 0.9, dtype=torch.float64).log()
    state = torch.zeros(4, 4, dtype=torch.float64)
    ys = []
    for i in range(40):
        y, state = step(q[i], k[i], v[i], decay[i], state)
        ys.append(y)
        assert state.shape == (4, 4)
        assert state.untyped_storage().nbytes() == 4 * 4 * 8
    assert_close(torch.stack(ys), parallel(q, k, v, decay))


def test_vir_decays_norms_and_gates_as_the_formula_says() -> None:
    torch.manual_seed(0)
    mixer = Retention(16, head_dim=8).double()
    x = torch.randn(1, 6, 16, dtype=torch.float64)
    q, k, v = mixer.qkv(x).view(6, 3, 2, 8).unbind(1)
    y = torch.zeros(6, 2, 8, dtype=torch.float64)
    for h, gamma in enumerate((1 - 2**-5, 1 - 2**-6)):
        for i in range(6):
            for j in range(i + 1):
                y[i, h] += gamma ** (i - j) * (q[i, h] @ k[j, h]) / 8**0.5 * v[j, h]
    normed = F.layer_norm(y, (8,)).flatten(1) * mixer.norm.weight + mixer.norm.bias
    assert mixer.gate is not None
    assert_close(mixer(x, Layout())[0], mixer.out(normed * F.silu(mixer.gate(x[0]))))


def test_vir_class_token_sees_every_patch_and_no_patch_a_later_one() -> None:
    torch.manual_seed(0)
    model = create_model("vir_nano").eval()
    image: Any = torch.randn(1, 3, 32, 32, requires_grad=True)
    (grad,) = torch.autograd.grad(model(image).square().sum(), image)
    assert grad.abs().sum(1).unflatten(1, (4, 8)).unflatten(3, (4, 8)).sum((2, 4)).gt(0).all()
    (grad,) = torch.autograd.grad(model.features(image)[-1].tokens[:, 5].square().sum(), image)
    seen = grad.abs().sum(1).unflatten(1, (4, 8)).unflatten(3, (4, 8)).sum((2, 4)).flatten() > 0
    assert seen.tolist() == [True] * 6 + [False] * 10


def test_vir_retention_equals_torchscale(near: Any) -> None:
    retention: Any = pytest.importorskip("torchscale.component.multiscale_retention")
    arguments = SimpleNamespace(multiway=False, layernorm_eps=1e-5)
    peer = retention.MultiScaleRetention(arguments, 32, 32, 4)
    draw = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 4, 19, 8, generator=draw) for _ in range(3))
    q = q / 40  # it divides by the sum of a row above 1, which its norm takes out again
    log_decay = Retention(32, head_dim=8).log_decay(k)
    want = peer.parallel_forward(q, k, v.transpose(1, 2).flatten(2), decay_between(log_decay))
    got = parallel(q, k, v, log_decay).transpose(1, 2)
    near("models.ops.retention", "torchscale", "MultiScaleRetention.parallel_forward", got, want)
