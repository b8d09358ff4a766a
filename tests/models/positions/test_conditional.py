import torch
from torch.testing import assert_close

from models.layout import Layout
from models.positions.base import POSITIONS


def test_the_zeros_beyond_the_edge_tell_where_a_token_is() -> None:
    position = POSITIONS.create("conditional", 4, 2)
    torch.nn.init.ones_(position.conv.conv.weight)
    torch.nn.init.zeros_(position.conv.conv.bias)
    y = position(torch.ones(1, 12, 4), Layout(grid=(3, 4)))
    assert y[0, :, 0].tolist() == [5, 7, 7, 5, 7, 10, 10, 7, 5, 7, 7, 5]


def test_hidden_tokens_reach_no_other() -> None:
    torch.manual_seed(0)
    position = POSITIONS.create("conditional", 4, 2)
    x, mask = torch.randn(1, 12, 4), torch.arange(12)[None] < 8
    assert_close(position(x, Layout(grid=(3, 4), mask=mask))[:, :8], position(x[:, :8], Layout(grid=(2, 4))))
