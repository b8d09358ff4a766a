import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from models.layout import Layout
from models.mixers.agent import AgentAttention

SMALL = [{"agents": 4, "grid": (5, 3), "head_dim": 8}]


def test_pools_only_real_tokens() -> None:
    mixer = AgentAttention(8, agents=4, head_dim=8).double()
    q, mask = torch.randn(1, 36, 8, dtype=torch.float64), torch.rand(1, 36) < 0.5
    mask[0, :3] = True
    pooled = mixer.pool(q, Layout(grid=(6, 6), mask=mask))[0].view(2, 2, 8)
    corner = mask.view(6, 6)[3:, :3]
    assert_close(pooled[1, 0], q.view(6, 6, 8)[3:, :3][corner].mean(0))


def test_biases_are_interpolated_on_other_rasters() -> None:
    torch.manual_seed(0)
    mixer = AgentAttention(8, agents=4, grid=(4, 6), head_dim=8)
    at_home = mixer.bias("in", (4, 6)).view(4, 4, 6)
    coarse = F.interpolate(mixer.in_maps, size=(4, 6), mode="bilinear")[0]
    assert_close(at_home, coarse + mixer.in_rows[0] + mixer.in_columns[0])
    assert mixer.bias("out", (9, 7)).shape == (1, 1, 4, 63)


def test_rejects_agents_that_fill_no_square() -> None:
    with pytest.raises(ValueError, match="agents must be a square number, got 10"):
        AgentAttention(32, agents=10)
