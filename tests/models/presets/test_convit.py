"""convit: attention that starts as a convolution, against an independent implementation."""

from typing import Any

import torch
from torch.testing import assert_close

from models import create_model
from models.layout import Layout
from models.mixers import create_mixer

GRID = (5, 6)


def given(**options: Any) -> Any:
    torch.manual_seed(0)
    mixer = create_mixer("gated_positional", 18, head_dim=2, **options).double()
    torch.nn.init.normal_(mixer.value)
    return mixer


def test_convit_equals_timm(timm: Any, agree: Any) -> None:
    peer = timm.create_model("convit_tiny", num_classes=11)
    agree("convit_tiny", peer, source="timm", sizes=[(224, 224)], options={"num_classes": 11})


def test_convit_with_open_gates_and_sharp_places_is_a_convolution_inside() -> None:
    mixer, x = given(locality=1e4), torch.randn(2, 30, 18, dtype=torch.float64)
    torch.nn.init.constant_(mixer.gate, 1e3)
    weight = torch.zeros(18, 18, 3, 3, dtype=torch.float64)
    for head in range(9):  # columns of a square of heads first
        part = slice(2 * head, 2 * head + 2)
        weight[:, :, head % 3, head // 3] = mixer.out.weight[:, part] @ mixer.value[part]
    image = x.mT.unflatten(-1, GRID)
    want = torch.nn.functional.conv2d(image, weight, mixer.out.bias)
    got = mixer(x, Layout(grid=GRID)).mT.unflatten(-1, GRID)
    assert_close(got[:, :, 1:-1, 1:-1], want, atol=1e-10, rtol=0)
    padded = torch.nn.functional.conv2d(image, weight, mixer.out.bias, padding=1)
    assert (got - padded)[:, :, 0].abs().min() > 1e-6  # at the border a head looks at the nearest token


def test_convit_with_closed_gates_is_plain_attention() -> None:
    mixer, x = given(), torch.randn(2, 30, 18, dtype=torch.float64)
    torch.nn.init.constant_(mixer.gate, -1e3)
    plain = create_mixer("attention", 18, head_dim=2, qkv_bias=False).double()
    plain.attention.qkv.weight.data = torch.cat([mixer.qk.weight, mixer.value])
    plain.attention.out.load_state_dict(mixer.out.state_dict())
    assert_close(mixer(x, Layout(grid=GRID)), plain(x, Layout()))


def test_convit_keeps_its_start_when_a_model_is_put_together() -> None:
    block = create_model("convit_nano").backbone.blocks[0]
    assert torch.equal(block.mixer.value, torch.eye(96))
    assert block.mixer.place_weight.tolist() == [[-1, -1, -1], [-1, 1, -1], [1, -1, -1], [1, 1, -1]]


def test_convit_class_token_joins_after_the_positional_blocks() -> None:
    model, seen = create_model("convit_nano").eval(), []
    for block in model.backbone.blocks:
        block.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[1]))
    with torch.no_grad():
        model(torch.randn(1, 3, 32, 32))
    assert seen == [64, 64, 64, 64, 65]
