import pytest
import torch
from torch.testing import assert_close

from models.layers.activations import activation
from models.layers.convolution import Convolution, coarser, fuse
from models.layout import Layout


@pytest.mark.parametrize(("kernel", "stride", "pad"), [(3, 1, 1), (3, 2, 1), (7, 4, 2), (2, 2, 0), (4, 4, 0)])
def test_pads_like_torch_where_the_stride_divides_the_raster(kernel: int, stride: int, pad: int) -> None:
    torch.manual_seed(0)
    ours = Convolution(3, 5, kernel=kernel, stride=stride)
    x = torch.randn(2, 8 * 12, 3)
    want = torch.nn.functional.conv2d(
        x.mT.unflatten(-1, (8, 12)), ours.conv.weight, ours.conv.bias, stride=stride, padding=pad
    )
    assert_close(ours(x, Layout(grid=(8, 12))), want.flatten(2).mT)


@pytest.mark.parametrize("grid", [(1, 1), (5, 7), (6, 9)])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (2, 2), (7, 4), (1, 2)])
def test_other_rasters_get_the_places_that_are_left(grid: tuple[int, int], kernel: int, stride: int) -> None:
    x, layout = torch.randn(1, grid[0] * grid[1], 2), Layout(grid=grid)
    conv = Convolution(2, 2, kernel=kernel, stride=stride)
    after = coarser(layout, conv.stride)
    assert after.grid == tuple(-(-size // stride) for size in grid)
    assert conv(x, layout).shape == (1, torch.Size(after.grid).numel(), 2)


def test_a_coarse_token_is_real_if_one_of_its_tokens_is() -> None:
    mask = torch.zeros(1, 15, dtype=torch.bool)
    mask[0, 14] = True  # row 2, column 4 of (3, 5)
    after = coarser(Layout(grid=(3, 5), mask=mask), (2, 2))
    assert after.mask is not None
    assert after.mask.tolist() == [[False] * 5 + [True]]


def test_batch_norms_fold_into_convolutions() -> None:
    torch.manual_seed(0)
    parts = torch.nn.ModuleList(Convolution(4, 4, norm="batch", act="silu", bias=b) for b in (False, True))
    x, layout = torch.randn(2, 30, 4), Layout(grid=(5, 6))
    for part in parts:
        part.norm.stats.weight.data.uniform_(0.5, 2)
        part.norm.stats.bias.data.normal_()
        for _ in range(3):
            part(torch.randn(2, 30, 4) * 2 + 1, layout)
    want = [part.eval()(x, layout) for part in parts]
    assert_close([part(x, layout) for part in fuse(parts)], want)
    assert not any("norm" in name for name, _ in parts.named_parameters())


def test_says_what_was_wanted_and_what_came() -> None:
    with pytest.raises(ValueError, match=r"a size must be one number or 2, got \(3,\)"):
        Convolution(2, 2, kernel=(3,))
    with pytest.raises(LookupError, match=r"no activation 'gel'; did you mean one of \['gelu"):
        activation("gel")
