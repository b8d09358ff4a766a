"""efficientvit_msra: cascaded group attention, against an independent implementation."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from models import create_model
from models.layers.convolution import fuse
from models.layout import Layout
from models.mixers import create_mixer


def test_efficientvit_msra_equals_timm(timm: Any, agree: Any) -> None:
    peer = timm.create_model("efficientvit_m0", num_classes=11)
    # at the second size windows are padded in the first two stages
    sizes = [(224, 224), (256, 304)]
    agree("efficientvit_msra_m0", peer, source="timm", sizes=sizes, options={"num_classes": 11})


@pytest.mark.parametrize("head", ["classification", "segmentation"])
def test_efficientvit_msra_fused_equals_its_eval_form(head: str) -> None:
    torch.manual_seed(0)
    model = create_model("efficientvit_msra_nano", **({} if head == "classification" else {"head": head}))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            for tensor in (module.weight.data, module.running_var):
                tensor.uniform_(0.5, 1.5)
            for tensor in (module.bias.data, module.running_mean):
                tensor.normal_(std=0.2)
    x = torch.randn(2, 3, 48, 40)
    with torch.no_grad():
        want = model.eval()(x)
        got = fuse(model)(x)
    assert not [m for m in model.modules() if isinstance(m, nn.BatchNorm1d)]
    assert want.std() > 0.01
    assert_close(got, want, atol=1e-5, rtol=0)


def test_efficientvit_msra_channels_reach_their_own_and_later_heads_only() -> None:
    torch.manual_seed(0)
    mixer = create_mixer("cascaded", 32, heads=4, key_dim=4).double().eval()
    found: list[torch.Tensor] = []
    mixer.out.register_forward_pre_hook(lambda _, args: found.append(args[0]))
    x = torch.randn(1, 49, 32, dtype=torch.float64, requires_grad=True)
    mixer(x, Layout(grid=(7, 7)))
    for head, y in enumerate(found[0].chunk(4, -1)):
        (grad,) = torch.autograd.grad(y.square().sum(), x, retain_graph=True)
        reached = [bool(part.any()) for part in grad.chunk(4, -1)]
        assert reached == [j <= head for j in range(4)]
