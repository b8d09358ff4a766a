"""kat: rational functions that learn, in place of an activation."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from models import create_model
from models.channels.base import CHANNELS
from models.channels.kan import GAINS, GroupRational
from models.layout import Layout
from models.ops.rational import rational


@pytest.mark.parametrize(("fit", "function"), [("identity", lambda x: x), ("gelu", F.gelu), ("silu", F.silu)])
def test_kat_starts_as_known_functions(fit: str, function: Callable[[Tensor], Tensor]) -> None:
    x = torch.linspace(-3, 3, 1000, dtype=torch.float64)[:, None].expand(-1, 8)
    assert_close(GroupRational(8, 8, fit).double()(x), function(x), atol=1e-2, rtol=0)


def test_kat_has_no_pole_whatever_it_learns() -> None:
    torch.manual_seed(0)
    x = torch.linspace(-30, 30, 4001, dtype=torch.float64)[:, None].expand(-1, 8)
    one = torch.zeros(6, dtype=torch.float64)
    one[0] = 1  # then the answer is 1 / denominator
    for _ in range(20):
        answer = rational(x, one, 5 * torch.randn(8, 4, dtype=torch.float64))
        assert answer.max() <= 1
        assert answer.min() > 0


def test_kat_backward_passes_gradcheck() -> None:
    torch.manual_seed(0)
    inputs = [torch.randn(*s, dtype=torch.float64, requires_grad=True) for s in ((2, 3, 8), (6,), (4, 4))]
    assert torch.autograd.gradcheck(rational, inputs)


def test_kat_channels_of_a_group_share_their_coefficients() -> None:
    torch.manual_seed(0)
    function = GroupRational(16, 8, "gelu").double()
    assert {name: tuple(p.shape) for name, p in function.named_parameters()} == {"a": (6,), "b": (8, 4)}
    with torch.no_grad():
        function.b.add_(torch.randn_like(function.b))
    x = torch.randn(50, 1, dtype=torch.float64).expand(-1, 16)
    y = function(x).unflatten(-1, (8, 2))
    assert torch.equal(y[..., 0], y[..., 1])
    apart = (y[:, :, None, 0] - y[:, None, :, 0]).abs().amax(0) + torch.eye(8)
    assert apart.min() > 1e-3, "groups must differ"


def test_kat_keeps_the_scale_of_tokens_over_twelve_layers() -> None:
    torch.manual_seed(0)
    for act in ("gelu", "silu"):
        x: Tensor = torch.randn(64, 16, 128)
        for _ in range(12):
            layer = CHANNELS.create("kan", 128, act=act)
            with torch.no_grad():
                x = layer(x, Layout())
        assert 0.5 <= float(x.std()) <= 2, act


@pytest.mark.parametrize(("act", "function"), [("gelu", F.gelu), ("silu", F.silu)])
def test_kat_gain_is_one_over_the_second_moment(act: str, function: Callable[[Tensor], Tensor]) -> None:
    x = torch.randn(2_000_000, generator=torch.Generator().manual_seed(0))
    assert GAINS[act] == pytest.approx(float(1 / function(x).square().mean()), rel=5e-3)


def test_kat_models_start_with_that_scale_too() -> None:
    torch.manual_seed(0)
    model = create_model("kat_tiny")
    up, down = model.backbone.blocks[5].channel.up, model.backbone.blocks[5].channel.down
    assert float(up.weight.detach().std()) == pytest.approx((1 / 192) ** 0.5, rel=0.02)
    assert float(down.weight.detach().std()) == pytest.approx((GAINS["silu"] / 768) ** 0.5, rel=0.02)
    assert float(model.backbone.blocks[5].mixer.attention.qkv.weight.detach().std()) == pytest.approx(
        0.02, rel=0.02
    )
