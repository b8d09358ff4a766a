"""rmt: fading by rows and columns is fading by Manhattan distance; without fading it is plain attention."""

import torch
from torch import Tensor
from torch.testing import assert_close

from models.layout import Layout
from models.mixers.manhattan import ManhattanAttention
from models.ops.flops import count_flops
from models.ops.rotary import turn

H, W = 5, 7


def build(decomposed: bool) -> tuple[ManhattanAttention, Tensor]:
    torch.manual_seed(0)
    mixer = ManhattanAttention(16, head_dim=8, decomposed=decomposed).double()
    return mixer, torch.randn(2, H * W, 16, dtype=torch.float64)


def dense(mixer: ManhattanAttention, x: Tensor) -> Tensor:
    """softmax(q k^T + log D) v, D pair by pair."""
    q, k, v = mixer.qkv(x).view(2, H * W, 3, 2, 8).permute(2, 0, 3, 1, 4)
    angles = torch.arange(H * W)[:, None] * 10000.0 ** -torch.linspace(0, 1, 4, dtype=torch.float64)
    scores = turn(q, angles) @ turn(k, angles).mT / 8**0.5
    for i in range(H * W):
        for j in range(H * W):
            distance = abs(i // W - j // W) + abs(i % W - j % W)
            scores[:, :, i, j] += distance * torch.tensor(mixer.gammas, dtype=torch.float64).log()
    y = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
    return mixer.out(y + mixer.local(v.transpose(1, 2).flatten(2), Layout(grid=(H, W))))


def test_rmt_equals_dense_attention_with_the_logarithm_of_its_decay() -> None:
    mixer, x = build(decomposed=False)
    assert mixer.gammas == [1 - 1 / 4, 1 - 1 / 16]
    with torch.no_grad():
        assert_close(mixer(x, Layout(grid=(H, W))), dense(mixer, x), atol=1e-12, rtol=1e-12)


def test_rmt_by_rows_and_columns_is_the_whole_where_only_the_decay_speaks() -> None:
    mixer, x = build(decomposed=True)
    with torch.no_grad():
        mixer.qkv.weight[:16], mixer.qkv.bias[:16] = 0, 0
        whole = ManhattanAttention(16, head_dim=8).double()
        whole.load_state_dict(mixer.state_dict())
        got, want = mixer(x, Layout(grid=(H, W))), whole(x, Layout(grid=(H, W)))
    assert_close(got, want, atol=1e-12, rtol=1e-12)


def test_rmt_without_decay_is_plain_attention() -> None:
    mixer, x = build(decomposed=False)
    mixer.gammas = [1.0, 1.0]
    q, k, v = mixer.qkv(x).view(2, H * W, 3, 2, 8).permute(2, 0, 3, 1, 4)
    angles = mixer.angles(q)
    y = (turn(q, angles) @ turn(k, angles).mT / 8**0.5).softmax(-1) @ v
    local = mixer.local(v.transpose(1, 2).flatten(2), Layout(grid=(H, W)))
    assert_close(mixer(x, Layout(grid=(H, W))), mixer.out(y.transpose(1, 2).flatten(2) + local))


def test_rmt_decomposed_costs_less_than_nine_times_for_four_times_the_tokens() -> None:
    mixer, _ = build(decomposed=True)

    def flops(side: int) -> int:
        x = torch.zeros(1, side * side, 16, dtype=torch.float64)
        with torch.no_grad():
            return count_flops(lambda: mixer(x, Layout(grid=(side, side))))

    assert 4 * flops(64) < flops(128) < 9 * flops(64)
