"""maxvit: windows and grids in turn, against an independent implementation."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from models.block import Block
from models.layout import Layout
from models.mixers import create_mixer
from models.ops.local.windows import Windows, cut, paste

GRID = (6, 9)


def mixer(strided: bool, dim: int = 8) -> Any:
    torch.manual_seed(0)
    return create_mixer("window", dim, window=3, head_dim=4, strided=strided).double()


def spread(raster: Tensor) -> Tensor:
    """Rows and columns put in the order of their place in a step of the grid: (b, 3 s, 3 t, d)."""
    b, h, w, d = raster.shape
    return raster.view(b, 3, h // 3, 3, w // 3, d).transpose(1, 2).transpose(3, 4).reshape(raster.shape)


def gather(raster: Tensor) -> Tensor:
    """Undoes `spread`."""
    b, h, w, d = raster.shape
    return raster.view(b, h // 3, 3, w // 3, 3, d).transpose(1, 2).transpose(3, 4).reshape(raster.shape)


def test_maxvit_equals_timm(timm: Any, agree: Any) -> None:
    # windows of 3 as that package sets them for images of 96 pixels: the same weights but for the tables
    peer = timm.create_model("maxvit_tiny_tf_224", num_classes=11, img_size=96)
    options = {"num_classes": 11, "window": 3}
    agree("maxvit_tiny", peer, source="timm", sizes=[(96, 96), (192, 96)], options=options)


def test_maxvit_grid_is_the_window_of_the_permuted_raster_and_comes_back_exactly() -> None:
    raster = torch.randn(2, *GRID, 5)
    block, grid = (Windows.of(GRID, (3, 3), strided=s) for s in (False, True))
    assert torch.equal(gather(spread(raster)), raster)
    assert torch.equal(cut(raster, grid, GRID), cut(spread(raster), block, GRID))
    assert torch.equal(paste(cut(raster, grid, GRID), grid, GRID), raster)
    x = torch.randn(2, *GRID, 8, dtype=torch.float64)
    layout = Layout(grid=GRID)
    windows = mixer(False)(spread(x).flatten(1, 2), layout).unflatten(1, GRID)
    assert_close(mixer(True)(x.flatten(1, 2), layout).unflatten(1, GRID), gather(windows))


@pytest.mark.parametrize("strided", [False, True])
def test_maxvit_attention_equals_masked_dense_attention(strided: bool) -> None:
    attention, x = mixer(strided), torch.randn(2, 54, 8, dtype=torch.float64)
    rows, columns = torch.meshgrid(*map(torch.arange, GRID), indexing="ij")
    places = torch.stack([rows, columns], -1).flatten(0, 1)
    steps = torch.tensor([2, 3])  # of the grid: 6 / 3 and 9 / 3
    home, inside = (places % steps, places // steps) if strided else (places // 3, places % 3)
    allowed = (home[:, None] == home[None]).all(-1)
    offset = (inside[:, None] - inside[None] + 2) @ torch.tensor([5, 1])
    bias = attention.bias[offset].permute(2, 0, 1).masked_fill(~allowed, -torch.inf)
    q, k, v = attention.qkv(x).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4)
    y = (q @ k.mT / 2 + bias).softmax(-1) @ v
    assert_close(attention(x, Layout(grid=GRID)), attention.out(y.transpose(1, 2).flatten(2)))


def test_maxvit_one_window_and_one_grid_reach_everything() -> None:
    window, grid = (Block(8, 2, mixer(s)).double() for s in (False, True))  # no bottleneck: its gates do too
    x, layout = torch.randn(1, 54, 8, dtype=torch.float64), Layout(grid=GRID)
    both = torch.autograd.functional.jacobian(lambda x: grid(window(x, layout), layout).sum(-1)[0], x)
    assert (both[:, 0].abs().amax(-1) > 0).all()
    one = torch.autograd.functional.jacobian(lambda x: window(x, layout).sum(-1)[0], x)
    assert (one[:, 0].abs().amax(-1) > 0).sum(-1).unique().tolist() == [9]
