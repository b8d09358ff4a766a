import torch
from torch.testing import assert_close

from models.layout import Layout
from models.mixers.channel_group import ChannelGroupAttention

SMALL = [{"group": 8}]


def test_equals_the_sums_over_tokens_group_by_group() -> None:
    torch.manual_seed(0)
    mixer = ChannelGroupAttention(8, group=4).double()
    x = torch.randn(2, 5, 8, dtype=torch.float64)
    q, k, v = mixer.qkv(x).chunk(3, dim=-1)
    y = torch.empty_like(x)
    for b in range(2):
        for g in (0, 4):
            for c in range(g, g + 4):
                scores = torch.stack(
                    [sum(k[b, n, c] * v[b, n, o] for n in range(5)) for o in range(g, g + 4)]
                )
                y[b, :, c] = q[b, :, g : g + 4] @ (scores / 2).softmax(0)
    assert_close(mixer(x, Layout()), mixer.out(y))
