import torch
from torch.testing import assert_close

from models.layout import Layout
from models.mixers.softmax_free import SoftmaxFreeAttention

SMALL = [{"head_dim": 8}, {"head_dim": 8, "normalised": False}]


def test_landmarks_of_hidden_cells_take_no_part() -> None:
    torch.manual_seed(0)
    mixer = SoftmaxFreeAttention(8, head_dim=8).double()
    x = torch.randn(1, 6, 4, 8, dtype=torch.float64)
    mask = torch.ones(1, 6, 4, dtype=torch.bool)
    mask[:, 4:] = False  # the last row of cells
    got = mixer(x.flatten(1, 2), Layout(grid=(6, 4), mask=mask.flatten(1))).view_as(x)
    want = mixer(x[:, :4].flatten(1, 2), Layout(grid=(4, 4))).view(1, 4, 4, 8)
    assert_close(got[:, :4], want, atol=1e-8, rtol=1e-8)
