import pytest
import torch
from torch.testing import assert_close

from models.layout import Layout
from models.mixers.combiner import CombinerAttention

SMALL = [{"head_dim": 16}, {"head_dim": 16, "block": 8, "causal": True}]


def test_hidden_tokens_take_no_part_in_their_block() -> None:
    torch.manual_seed(0)
    mixer = CombinerAttention(16, block=4, head_dim=8).double()
    x, mask = torch.randn(1, 12, 16, dtype=torch.float64), torch.ones(1, 12, dtype=torch.bool)
    mask[:, 8:] = False  # a whole block
    assert_close(mixer(x, Layout(mask=mask))[:, :8], mixer(x[:, :8], Layout()))


def test_rejects_blocks_of_nothing() -> None:
    with pytest.raises(ValueError, match="block must be positive, got 0"):
        CombinerAttention(32, block=0)
