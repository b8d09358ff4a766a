"""biformer: attention to the best regions is dense attention masked to them; the choice is a plain top k."""

import torch
from torch import Tensor
from torch.testing import assert_close

from models.layout import Layout
from models.mixers.bi_level import BiLevelAttention
from models.ops.flops import count_flops

H, W, S = 12, 8, 4  # regions of 3 x 2


def build(topk: int) -> tuple[BiLevelAttention, Tensor]:
    torch.manual_seed(0)
    mixer = BiLevelAttention(16, regions=S, topk=topk, head_dim=8).double()
    return mixer, torch.randn(2, H * W, 16, dtype=torch.float64)


def region_of_tokens() -> Tensor:
    rows, columns = torch.arange(H) // (H // S), torch.arange(W) // (W // S)
    return (rows[:, None] * S + columns).flatten()


def brute_force(q: Tensor, k: Tensor, topk: int) -> Tensor:
    """(b, regions, regions): whom each region sees, by its means and a full sort."""
    home = region_of_tokens()
    means = [torch.stack([t[:, home == r].mean(1) for r in range(S * S)], 1) for t in (q, k)]
    seen = torch.zeros(len(q), S * S, S * S, dtype=torch.bool)
    for b in range(len(q)):
        for i in range(S * S):
            scores = [(float(means[0][b, i] @ means[1][b, j]), j) for j in range(S * S)]
            seen[b, i, [j for _, j in sorted(scores, reverse=True)[:topk]]] = True
    return seen


def dense(mixer: BiLevelAttention, x: Tensor, allowed: Tensor | None) -> Tensor:
    q, k, v = mixer.qkv(x).view(2, H * W, 3, 2, 8).permute(2, 0, 3, 1, 4)
    scores = q @ k.mT / 16**0.5
    if allowed is not None:
        scores = scores.masked_fill(~allowed[:, None], -torch.inf)
    y = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
    return mixer.out(y + mixer.local(v.transpose(1, 2).flatten(2), Layout(grid=(H, W))))


def test_biformer_equals_dense_attention_masked_to_the_chosen_regions() -> None:
    for topk in (1, 3):
        mixer, x = build(topk)
        q, k, _ = mixer.qkv(x).detach().chunk(3, -1)
        home = region_of_tokens()
        allowed = brute_force(q, k, topk)[:, home][:, :, home]  # (b, n, n)
        want, got = dense(mixer, x, allowed), mixer(x, Layout(grid=(H, W)))
        assert_close(got, want, atol=1e-12, rtol=1e-12)
        parameters = list(mixer.parameters())
        wanted = torch.autograd.grad(want.square().sum(), parameters)
        assert_close(torch.autograd.grad(got.square().sum(), parameters), wanted)


def test_biformer_with_all_regions_is_full_attention() -> None:
    mixer, x = build(S * S)
    assert_close(mixer(x, Layout(grid=(H, W))), dense(mixer, x, None), atol=1e-12, rtol=1e-12)


def test_biformer_routes_to_the_top_k_of_region_means() -> None:
    mixer, x = build(3)
    q, k, _ = mixer.qkv(x).detach().chunk(3, -1)
    home = region_of_tokens()
    cut = [torch.stack([t[:, home == r] for r in range(S * S)], 1) for t in (q, k)]
    chosen = mixer.route(cut[0], cut[1])
    assert chosen.shape == (2, S * S, 3)
    seen = torch.zeros(2, S * S, S * S, dtype=torch.bool).scatter_(2, chosen, True)
    assert torch.equal(seen, brute_force(q, k, 3))


def test_biformer_attends_to_k_n_over_s_squared_keys() -> None:
    def flops(topk: int) -> int:
        mixer, x = build(topk)
        with torch.no_grad():
            return count_flops(lambda: mixer(x, Layout(grid=(H, W))))

    keys_of_one_region = H * W // S**2
    assert (
        flops(5) - flops(4) == 2 * 2 * (2 * H * W) * keys_of_one_region * 16
    )  # q k^T and its v, 2 per product
