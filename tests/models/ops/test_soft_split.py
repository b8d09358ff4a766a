import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from models.ops.soft_split import soft_split


@pytest.mark.parametrize(("kernel", "stride"), [(7, 4), (3, 2), (3, 1)])
def test_folding_back_gives_each_value_as_often_as_it_was_seen(kernel: int, stride: int) -> None:
    grid, pad = (8, 12), (kernel - stride + 1) // 2
    x = torch.randn(2, 96, 3)
    patches, fewer = soft_split(x, grid, kernel=kernel, stride=stride)
    assert fewer == (8 // stride, 12 // stride)
    ones, _ = soft_split(torch.ones_like(x), grid, kernel=kernel, stride=stride)
    back, seen = (F.fold(t.mT, grid, kernel, stride=stride, padding=pad) for t in (patches, ones))
    assert seen.min() >= 1
    assert_close((back / seen).flatten(2).mT, x)


@pytest.mark.parametrize("grid", [(1, 1), (5, 7), (9, 6)])
def test_takes_any_raster(grid: tuple[int, int]) -> None:
    patches, fewer = soft_split(torch.randn(1, grid[0] * grid[1], 2), grid, kernel=7, stride=4)
    assert fewer == (-(-grid[0] // 4), -(-grid[1] // 4))
    assert patches.shape == (1, fewer[0] * fewer[1], 98)
