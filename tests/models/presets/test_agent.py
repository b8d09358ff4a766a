"""agent: two softmaxes through few agents are one attention matrix of low rank, at linear cost."""

from typing import Any

import pytest
import torch
from torch.testing import assert_close

from models.layout import Layout
from models.mixers.agent import AgentAttention
from models.ops.agent import agent_attention
from models.ops.flops import count_flops


def test_agent_equals_the_product_of_its_two_attentions() -> None:
    torch.manual_seed(0)
    b, h, w, e, agents = 2, 6, 5, 4, 9
    mixer = AgentAttention(8, agents=agents, grid=(h, w), head_dim=e).double()
    x, layout = torch.randn(b, h * w, 8, dtype=torch.float64), Layout(grid=(h, w))
    q, k, v = mixer.qkv(x).view(b, h * w, 3, 2, e).permute(2, 0, 3, 1, 4)
    a = mixer.pool(mixer.qkv(x)[..., :8], layout).view(b, agents, 2, e).transpose(1, 2)
    collect = (a @ k.mT / e**0.5 + mixer.bias("in", (h, w))).softmax(-1)
    hand_on = (q @ a.mT / e**0.5 + mixer.bias("out", (h, w)).mT).softmax(-1)
    whole = hand_on @ collect  # (b, heads, n, n)
    assert_close(whole.sum(-1), torch.ones_like(whole[..., 0]))
    assert int(torch.linalg.matrix_rank(whole).max()) <= agents
    want = (whole @ v).transpose(1, 2).flatten(2) + mixer.local(v.transpose(1, 2).flatten(2), layout)
    assert_close(mixer(x, layout), mixer.out(want), atol=1e-12, rtol=1e-12)


def test_agent_equals_agent_attention_pytorch(near: Any) -> None:
    package: Any = pytest.importorskip("agent_attention_pytorch")
    torch.manual_seed(0)
    peer = package.AgentSelfAttention(
        32, num_agent_tokens=5, dim_head=8, heads=4, talking_heads=False, gate=False
    )
    x, agents = torch.randn(2, 19, 32), torch.randn(2, 4, 5, 8)
    q, k, v = peer.to_qkv(x)
    with torch.no_grad():
        want = peer(x, agent_tokens=agents)
        got = peer.to_out(agent_attention(q, agents, k, v))
    near("models.ops.agent", "agent-attention-pytorch", "AgentSelfAttention", got, want)


def test_agent_costs_four_times_as_much_for_four_times_the_tokens() -> None:
    mixer = AgentAttention(16, agents=9, head_dim=8)

    def flops(side: int) -> int:
        with torch.no_grad():
            return count_flops(lambda: mixer(torch.zeros(1, side * side, 16), Layout(grid=(side, side))))

    assert flops(64) < 4.1 * flops(32)
