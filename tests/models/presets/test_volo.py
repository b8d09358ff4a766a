"""volo: outlooks, against an independent implementation."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from models.layout import Layout
from models.mixers import create_mixer


def given(**options: Any) -> Any:
    torch.manual_seed(0)
    return create_mixer("outlook", 16, head_dim=8, **options).eval()


def test_volo_equals_timm(timm: Any, agree: Any) -> None:
    peer = timm.create_model("volo_d1_224", num_classes=11)
    agree("volo_d1", peer, source="timm", sizes=[(224, 224)], options={"num_classes": 11})


@pytest.mark.parametrize(("grid", "stride"), [((6, 8), 2), ((5, 7), 2), ((4, 5), 1)])
def test_volo_outlook_equals_timm(timm: Any, grid: tuple[int, int], stride: int) -> None:
    from timm.models.volo import OutlookAttention

    mixer = given(stride=stride)
    peer = OutlookAttention(16, 2, kernel_size=3, padding=1, stride=stride)
    names = {"v": mixer.value, "attn": mixer.weights, "proj": mixer.out}
    for name, part in names.items():
        getattr(peer, name).load_state_dict(part.state_dict())
    x = torch.randn(2, *grid, 16)
    assert_close(mixer(x.flatten(1, 2), Layout(grid=grid)), peer(x).flatten(1, 2), atol=1e-5, rtol=0)


def windows_one_by_one(mixer: Any, x: Tensor, grid: tuple[int, int], stride: int) -> Tensor:
    """Places in loops: every window mixes its values and adds them to its places."""
    h, w = grid
    v = mixer.value(x).view(h, w, 2, 8)
    y = torch.zeros(h, w, 2, 8, dtype=x.dtype)
    for top in range(0, h, stride):
        for left in range(0, w, stride):
            cell = x.view(h, w, 16)[top : top + stride, left : left + stride].flatten(0, 1).mean(0)
            weights = (mixer.weights(cell).view(2, 9, 9) / 8**0.5).softmax(-1)
            places = [(top + i, left + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
            inside = [0 <= i < h and 0 <= j < w for i, j in places]
            for to, (i, j) in enumerate(places):
                if inside[to]:
                    for of, place in enumerate(places):
                        if inside[of]:
                            y[i, j] += weights[:, to, of, None] * v[place]
    return mixer.out(y.view(h * w, 16))


@pytest.mark.parametrize("stride", [1, 2])
def test_volo_outlook_equals_its_windows_one_by_one(stride: int) -> None:
    mixer, grid = given(stride=stride).double(), (4, 5)
    x = torch.randn(1, 20, 16, dtype=torch.float64)
    assert_close(mixer(x, Layout(grid=grid))[0], windows_one_by_one(mixer, x[0], grid, stride))


def test_volo_uniform_weights_are_folded_means() -> None:
    mixer, grid, shape = given(stride=1), (5, 6), {"kernel_size": 3, "padding": 1}
    torch.nn.init.zeros_(mixer.weights.weight)
    torch.nn.init.zeros_(mixer.weights.bias)
    x = torch.randn(2, 30, 16)
    near = F.unfold(mixer.value(x).mT.unflatten(-1, grid), **shape).unflatten(1, (16, 9))
    folded = F.fold(near.mean(2, keepdim=True).expand_as(near).flatten(1, 2), grid, **shape)
    assert_close(mixer(x, Layout(grid=grid)), mixer.out(folded.flatten(2).mT))


def test_volo_outlook_costs_as_much_for_every_token() -> None:
    def flops(width: int) -> int:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            given()(torch.zeros(1, 8 * width, 16), Layout(grid=(8, width)))
        return counter.get_total_flops()

    assert flops(64) == 4 * flops(16)
