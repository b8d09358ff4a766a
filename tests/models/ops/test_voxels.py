import torch
from torch import Tensor
from torch.testing import assert_close

from models.ops.voxels import cells_of, convolve_cells, mean_of_cells, neighbours


def test_cells_share_out_the_box_and_keep_the_edge() -> None:
    coords = torch.tensor([[[-1.0, -0.51, 0.99], [1.0, 7.0, -7.0]]])
    assert cells_of(coords, (4, 4, 2)).tolist() == [[[0, 0, 1], [3, 3, 0]]]


def test_convolution_equals_one_on_the_dense_raster() -> None:
    draw = torch.Generator().manual_seed(0)
    size, n, d = 5, 20, 3
    cells = torch.randint(size, (2, n, 3), generator=draw)
    mask = torch.rand(2, n, generator=draw) < 0.8
    x = torch.randn(2, n, d, dtype=torch.float64, generator=draw)
    three = torch.arange(-1, 2)
    offsets = torch.cartesian_prod(three, three, three)
    weight = torch.randn(27, d, dtype=torch.float64, generator=draw)
    found = neighbours(cells, mask, offsets)
    got = convolve_cells(mean_of_cells(x, found.cell, mask), found.near, weight)
    got = got.gather(1, found.cell[..., None].expand(-1, -1, d))
    dense = dense_means(x, cells, mask, size)
    kernel = weight.T.reshape(d, 1, 3, 3, 3)
    want = torch.nn.functional.conv3d(dense, kernel, padding=1, groups=d)
    for b in range(2):
        for i in mask[b].nonzero().flatten():
            assert_close(got[b, i], want[b, :, *cells[b, i]])


def dense_means(x: Tensor, cells: Tensor, mask: Tensor, size: int) -> Tensor:
    total = x.new_zeros(2, x.shape[-1], size, size, size)
    count = x.new_zeros(2, 1, size, size, size)
    for b in range(2):
        for i in mask[b].nonzero().flatten():
            total[b, :, *cells[b, i]] += x[b, i]
            count[b, :, *cells[b, i]] += 1
    return total / count.clamp(min=1)


def test_cells_at_an_edge_do_not_touch_those_at_the_other() -> None:
    cells = torch.tensor([[[0, 0, 3], [0, 1, 0]]])  # neighbours in the order of keys, not in space
    found = neighbours(cells, None, torch.tensor([[0, 0, 1], [0, 0, -1]]))
    assert (found.near == 2).all()
