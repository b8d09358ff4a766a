import pytest
import torch
from torch.testing import assert_close

from models.layout import Layout
from models.positions.cross_window import CrossWindow


def test_each_quarter_of_the_channels_looks_its_own_way() -> None:
    torch.manual_seed(0)
    step = CrossWindow(8, 3, reach=5, cells=10, height=10).double().eval()
    centre = torch.tensor([5, 5, 5])
    moves = torch.tensor([[0, 0, 0], [1, -1, 1], [0, 2, 0], [-2, 0, 0], [3, 0, 0], [0, 0, 2]])
    coords = ((centre + moves + 0.5) / 5 - 1).double()[None]
    x = torch.randn(1, 6, 8, dtype=torch.float64, requires_grad=True)
    seen = []
    for channel in range(0, 8, 2):
        (grad,) = torch.autograd.grad(step(x, Layout(coords=coords))[0, 0, channel], x)
        seen.append(grad[0].any(-1).nonzero().flatten().tolist())
    assert seen == [[0, 1], [0, 2], [0, 3], [0]]
    normed = step.norm(x, Layout())
    assert_close(step(x, Layout(coords=coords))[..., 6:], 2 * normed[..., 6:])


def test_hidden_points_and_the_order_do_not_matter() -> None:
    torch.manual_seed(0)
    step = CrossWindow(8, 3, reach=5, cells=4, height=4).double().eval()
    x, coords = torch.randn(2, 30, 8, dtype=torch.float64), torch.rand(2, 30, 3, dtype=torch.float64) * 2 - 1
    mask = torch.arange(30).expand(2, -1) < 20
    whole, order = step(x, Layout(coords=coords, mask=mask)), torch.randperm(20)
    shuffled = Layout(coords=coords[:, order])
    assert_close(whole[:, order], step(x[:, order], shuffled))


def test_rejects_what_it_cannot_split() -> None:
    with pytest.raises(ValueError, match="three axes, got a stem of 2"):
        CrossWindow(8, 2)
    with pytest.raises(ValueError, match="quarters, got dim=6"):
        CrossWindow(6, 3)
    with pytest.raises(ValueError, match="reach must be odd, got 4"):
        CrossWindow(8, 3, reach=4)
