"""pre_crmsnorm: one ViT, three norms, the same answers."""

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from models import create_model
from models.layout import Layout
from models.norms.base import NORMS
from models.recentre import FORMS, recentre


def forms(model: Any) -> dict[str, Any]:
    return {form: recentre(copy.deepcopy(model), form) for form in FORMS}


def trained() -> tuple[Any, Tensor, Tensor]:
    """A small Pre-LN ViT after some steps on random labels, and a batch."""
    torch.manual_seed(0)
    model = create_model("pre_crmsnorm_nano", norms=None)
    x, label = torch.randn(8, 3, 48, 48), torch.randint(10, (8,))
    step(model, x, label, count=10, lr=0.05)
    for name, parameter in model.named_parameters():
        if "norm" in name:
            nn.init.normal_(parameter, mean=float("weight" in name), std=0.2)
    return model, x, label


def step(model: nn.Module, x: Tensor, label: Tensor, *, count: int = 1, lr: float = 0.1) -> None:
    optimiser = torch.optim.SGD(model.parameters(), lr=lr)
    for _ in range(count):
        optimiser.zero_grad()
        F.cross_entropy(model(x), label).backward()
        optimiser.step()


def test_pre_crmsnorm_forms_of_a_trained_vit_agree_before_and_after_a_step_of_sgd() -> None:
    model, x, label = trained()
    before, every = model(x), forms(model)
    scale = float(before.detach().abs().max())
    for form, other in every.items():
        assert_close(other(x) / scale, before / scale, atol=1e-5, rtol=0, msg=form)
        step(other, x, label)
    after = every["layer"](x)
    assert (after - before).abs().max() > 1e-2 * scale, "the step must matter"
    for form in ("rms", "crms"):
        assert_close(every[form](x) / scale, after / scale, atol=1e-5, rtol=0, msg=form)


def test_pre_crmsnorm_forms_of_timms_vit_agree(timm: Any, agree: Any) -> None:
    peer = timm.create_model("vit_tiny_patch16_224", num_classes=11, no_embed_class=True)
    model, _ = agree("pre_ln_tiny", peer, source="timm", sizes=[(224, 224)], options={"num_classes": 11})
    x = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        want = model(x)
        for form in FORMS:
            got = recentre(copy.deepcopy(model), form)(x)
            assert_close(got / want.abs().max(), want / want.abs().max(), atol=1e-5, rtol=0, msg=form)


@pytest.mark.parametrize(("form", "width"), [("rms", 64), ("crms", 63)])
def test_pre_crmsnorm_stream_has_zero_mean_and_one_channel_less(form: str, width: int) -> None:
    model, x, _ = trained()
    stream: list[Tensor] = []
    model = recentre(model, form)
    for block in model.backbone.blocks:
        block.register_forward_hook(lambda _, __, y: stream.append(y))
    with torch.no_grad():
        model(x)
    assert {y.shape[-1] for y in stream} == {width}
    assert model.backbone.blocks[0].mixer.attention.out.weight.shape == (width, 64)
    assert model.backbone.blocks[0].mixer.attention.qkv.weight.shape == (192, width)
    if form == "rms":
        assert max(float(y.mean(-1).abs().max()) for y in stream) < 1e-6


def test_pre_crmsnorm_norms_equal_torchs_own() -> None:
    x = torch.randn(5, 7, 32, dtype=torch.float64)
    zero = x - x.mean(-1, keepdim=True)
    want = nn.LayerNorm(32, elementwise_affine=False)(x)
    rms, crms = NORMS.create("rms", 32, affine=False), NORMS.create("crms", 31, affine=False)
    assert_close(rms(x, Layout()), nn.RMSNorm(32, eps=1e-5, elementwise_affine=False)(x))
    assert_close(rms(zero, Layout()), want, atol=1e-12, rtol=0)
    assert_close(crms(zero[..., :-1], Layout()), want[..., :-1], atol=1e-12, rtol=0)


def test_pre_crmsnorm_refuses_what_it_cannot_turn() -> None:
    with pytest.raises(ValueError, match="only an isotropic backbone"):
        recentre(create_model("swin_nano"), "rms")
    with pytest.raises(LookupError, match="no form 'rmsx' of norms"):
        create_model("pre_crmsnorm_nano", norms="rmsx")
