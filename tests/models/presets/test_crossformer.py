"""crossformer: near and far groups, and tokens of several scales. Dense attention in double precision."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from models import create_model
from models.block import Block
from models.imports import export_state, import_state
from models.layers.cross_scale import CrossScaleConvolution
from models.layout import Layout
from models.mixers import create_mixer

GRID, GROUP, STEP = (6, 9), 3, 3


def given(**options: Any) -> Any:
    torch.manual_seed(0)
    mixer = create_mixer("dynamic_window", 64, head_dim=32, **options).double()
    for parameter in mixer.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return mixer


def places(grid: tuple[int, int]) -> Tensor:
    return torch.stack(torch.meshgrid(*map(torch.arange, grid), indexing="ij"), -1).flatten(0, 1)


@pytest.mark.parametrize("options", [{"group": GROUP}, {"interval": STEP}])
def test_crossformer_groups_equal_masked_dense_attention_with_the_networks_bias(options: Any) -> None:
    mixer, x = given(**options), torch.randn(2, 54, 64, dtype=torch.float64)
    far, place = "interval" in options, places(GRID)
    home, inside = (place % STEP, place // STEP) if far else (place // GROUP, place % GROUP)
    allowed = (home[:, None] == home[None]).all(-1)
    bias = mixer.bias((inside[:, None] - inside[None]).double()).permute(2, 0, 1)
    q, k, v = mixer.qkv(x).unflatten(-1, (3, 2, 32)).permute(2, 0, 3, 1, 4)
    scores = (q @ k.mT / 32**0.5 + bias).masked_fill(~allowed, -torch.inf)
    want = mixer.out((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))
    assert_close(mixer(x, Layout(grid=GRID)), want)


def test_crossformer_bias_network_is_a_table_on_one_size_and_still_runs_on_another() -> None:
    mixer = given(group=7)
    table = mixer.table((7, 7)).unflatten(0, (13, 13))
    place = places((7, 7))
    offsets = place[:, None] - place[None]
    looked_up = table[offsets[..., 0] + 6, offsets[..., 1] + 6]
    assert_close(looked_up, mixer.bias(offsets.double()))
    x = torch.randn(1, 120, 64, dtype=torch.float64)
    mixer.group = 11  # no parameter knows
    assert mixer(x, Layout(grid=(10, 12))).isfinite().all()
    assert_close(mixer.table((11, 11)).unflatten(0, (21, 21))[4:17, 4:17], table)


def test_crossformer_near_then_far_reaches_every_token() -> None:
    near, far = (Block(64, 2, given(**o)).double() for o in ({"group": GROUP}, {"interval": STEP}))
    x, layout = torch.randn(1, 54, 64, dtype=torch.float64), Layout(grid=GRID)
    both = torch.autograd.functional.jacobian(lambda x: far(near(x, layout), layout).sum(-1)[0], x)
    assert (both[:, 0].abs().amax(-1) > 0).all()
    wide = Block(64, 2, given(interval=4)).double()  # groups of neighbours are smaller than this interval
    layout, x = Layout(grid=(8, 8)), torch.randn(1, 64, 64, dtype=torch.float64)
    less = torch.autograd.functional.jacobian(lambda x: wide(near(x, layout), layout).sum(-1)[0], x)
    assert not (less[:, 0].abs().amax(-1) > 0).all()


def test_crossformer_tokens_hold_halves_of_halves_of_four_kernels_at_one_stride() -> None:
    torch.manual_seed(0)
    scales = CrossScaleConvolution(3, 32, kernels=(4, 8, 16, 32), stride=4).double()
    assert [conv.conv.out_channels for conv in scales.convs] == [16, 8, 4, 4]
    x = torch.randn(1, 3, 32, 40, dtype=torch.float64)
    maps = [
        torch.nn.functional.conv2d(x, c.conv.weight, c.conv.bias, stride=4, padding=(k - 4) // 2)
        for c, k in zip(scales.convs, (4, 8, 16, 32), strict=True)
    ]
    want = torch.cat(maps, 1).flatten(2).mT
    assert_close(scales(x.flatten(2).mT, Layout(grid=(32, 40))), want)


def test_crossformer_weights_go_to_the_authors_names_and_back() -> None:
    state = create_model("crossformer_small", dims=(32, 64, 64, 64), depths=(2, 1, 1, 1)).state_dict()
    theirs = export_state("crossformer_small", state, source="authors")
    back = import_state("crossformer_small", theirs, source="authors")
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], state[key]) for key in state)


@pytest.mark.parametrize(("kind", "options"), [("short", {"group": 4}), ("long", {"interval": 3})])
@pytest.mark.usefixtures("timm")  # which stands in for torchvision's names, here too
def test_crossformer_attention_equals_vit_pytorch(kind: str, options: Any, near: Any) -> None:
    package: Any = pytest.importorskip("vit_pytorch.crossformer")
    torch.manual_seed(0)
    peer = package.Attention(64, kind, window_size=4, dim_head=32)
    ours = create_mixer("crossformer", dim=64, head_dim=32, **options)
    peer.norm = torch.nn.Identity()
    torch.nn.init.zeros_(peer.dpb[-2].weight)  # it reads other entries of its bias than the paper's formula
    torch.nn.init.zeros_(ours.bias[-1].weight)
    state = {"qkv.weight": peer.to_qkv.weight.flatten(1), "qkv.bias": torch.zeros(192)}
    state |= {"out.weight": peer.to_out.weight.flatten(1), "out.bias": peer.to_out.bias}
    ours.load_state_dict({**ours.state_dict(), **state})
    x = torch.randn(2, 64, 12, 12)
    with torch.no_grad():
        got, want = ours(x.flatten(2).mT, Layout(grid=(12, 12))), peer(x).flatten(2).mT
    near("dynamic_window", "vit-pytorch", f"crossformer.Attention, {kind}", got, want)
