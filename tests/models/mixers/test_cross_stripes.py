import pytest
import torch

from models.layout import Layout
from models.mixers.cross_stripes import CrossStripesAttention

SMALL = [{"stripe": 2, "head_dim": 8}, {"stripe": None, "head_dim": 8}]


def test_wants_two_halves_of_heads() -> None:
    with pytest.raises(ValueError, match="even number of heads, got 3"):
        CrossStripesAttention(96)


def test_hidden_columns_are_not_there() -> None:
    torch.manual_seed(0)
    mixer = CrossStripesAttention(8, stripe=2, head_dim=4).double()
    x, mask = torch.randn(1, 4, 6, 8, dtype=torch.float64), torch.arange(6).expand(1, 4, -1) < 4
    y = mixer(x.flatten(1, 2), Layout(grid=(4, 6), mask=mask.flatten(1))).unflatten(1, (4, 6))
    want = mixer(x[:, :, :4].flatten(1, 2), Layout(grid=(4, 4))).unflatten(1, (4, 4))
    torch.testing.assert_close(y[:, :, :4], want)
