import pytest
import torch
from torch.testing import assert_close

from models.layout import Layout
from models.mixers.neighbourhood import NeighbourhoodAttention
from models.ops.neighbourhood.reference import reference

SMALL = [
    {"window": 3, "head_dim": 8},
    {"window": (3, 5), "dilation": (2, 1), "causal": (True, False), "head_dim": 8, "bias": False},
]


@pytest.mark.parametrize(("grid", "window"), [((13,), 5), ((7, 9), 3), ((3, 5, 4), (2, 3, 3))])
def test_equals_dense_attention_with_its_own_projections(
    grid: tuple[int, ...], window: int | tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    mixer = NeighbourhoodAttention(16, window=window, axes=len(grid), dilation=2, head_dim=8).double()
    x = torch.randn(2, torch.Size(grid).numel(), 16, dtype=torch.float64)
    q, k, v = mixer.qkv(x).view(2, *grid, 3, 2, 8).unbind(-3)
    want = mixer.out(reference(q, k, v, mixer.bias, mixer.hood).flatten(-2).flatten(1, -2))
    assert_close(mixer(x, Layout(grid=grid)), want)


def test_rejects_a_layout_without_its_grid() -> None:
    mixer, x = NeighbourhoodAttention(32), torch.zeros(1, 9, 32)
    with pytest.raises(ValueError, match="neighbourhood needs a grid of 2 axes in the layout, got None"):
        mixer(x, Layout())
    with pytest.raises(ValueError, match=r"got 9 tokens for a grid of \(2, 4\) = 8"):
        mixer(x, Layout(grid=(2, 4)))
