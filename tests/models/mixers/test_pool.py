import pytest
import torch
from torch.testing import assert_close

from models.layout import Layout
from models.mixers.pool import PoolMixer


@pytest.mark.parametrize("grid", [(7,), (4, 5), (3, 2, 4)])
def test_equals_the_mean_of_the_neighbours_that_are_real(grid: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    n = torch.Size(grid).numel()
    x, mask = torch.randn(2, n, 3, dtype=torch.float64), torch.rand(2, n) < 0.7
    axes = torch.meshgrid(*map(torch.arange, grid), indexing="ij")
    places = torch.stack(axes, -1).flatten(0, -2)
    near = (places[:, None] - places[None]).abs().amax(-1) <= 1
    mixer = PoolMixer(3, axes=len(grid))
    for real in (torch.ones_like(mask), mask):
        weight = (near & real[:, None]).double()
        want = weight @ x / weight.sum(-1, keepdim=True) - x
        got = mixer(x, Layout(grid=grid, mask=None if real.all() else real))
        assert_close(got[real], want[real])


def test_rejects_a_pool_without_a_middle() -> None:
    with pytest.raises(ValueError, match="size of a pool must be odd, got 2"):
        PoolMixer(3, size=2)
