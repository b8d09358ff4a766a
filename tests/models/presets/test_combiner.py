"""combiner: full attention at the cost of a part of it."""

import math

import pytest
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from models.layout import Layout, Tokens
from models.mixers import create_mixer
from models.mixers._heads import merge_heads, split_heads
from models.mixers.combiner import CombinerAttention


def implied(mixer: CombinerAttention, x: Tokens) -> Float[Tensor, "b h n n"]:
    """The matrix p(j | i) that a mixer applies, written out; n must be a multiple of the block."""
    n = x.shape[1]
    size = mixer.block or math.isqrt(max(n - 1, 0)) + 1
    q, k, _ = (split_heads(t, mixer.heads) for t in mixer.qkv(x).chunk(3, dim=-1))
    scale = q.shape[-1] ** 0.5
    blocks = n // size
    q_sum, k_sum = (
        f(t).relu().unflatten(2, (blocks, size)).amax(3) for f, t in ((mixer.sum_q, q), (mixer.sum_k, k))
    )
    inner = torch.einsum("bhre,bhrle->bhrl", q_sum, k.unflatten(2, (blocks, size))) / scale
    inner = inner.softmax(-1).flatten(2)  # p(j | r(j)) of each token j
    place = torch.arange(n, device=x.device)
    own = place[:, None] // size == place // size
    direct = (q @ k.mT / scale).exp() * own
    indirect = (q @ k_sum.mT / scale).exp()  # (b, h, n, r)
    mine = torch.arange(blocks, device=x.device) == (place // size)[:, None]
    indirect = indirect * ~mine
    if mixer.causal:
        direct = direct.tril()
        indirect = indirect * (torch.arange(blocks, device=x.device) < (place // size)[:, None])
    total = direct.sum(-1, keepdim=True) + indirect.sum(-1, keepdim=True)
    return (direct + indirect.repeat_interleave(size, dim=-1) * inner[:, :, None]) / total


def made(**options: int) -> CombinerAttention:
    torch.manual_seed(0)
    mixer = create_mixer("combiner", 8, head_dim=4, **options).double()
    assert isinstance(mixer, CombinerAttention)
    return mixer


@pytest.mark.parametrize("causal", [False, True])
def test_combiner_implied_matrix_is_full_sums_to_one_and_gives_the_answer(causal: bool) -> None:
    mixer = made(block=4, causal=causal)
    x = torch.randn(2, 20, 8, dtype=torch.float64)
    matrix = implied(mixer, x)
    seen = torch.ones(20, 20, dtype=torch.bool)
    seen = seen.tril() if causal else seen
    assert matrix[..., seen].min() > 0
    assert matrix[..., ~seen].abs().sum() == 0
    assert_close(matrix.sum(-1), torch.ones_like(matrix[..., 0]), atol=1e-12, rtol=0)
    v = split_heads(mixer.qkv(x).chunk(3, -1)[2], 2)
    assert_close(mixer(x, Layout()), mixer.out(merge_heads(matrix @ v)), atol=1e-10, rtol=0)


def test_combiner_of_one_block_is_softmax_attention() -> None:
    mixer = made(block=20)
    x = torch.randn(2, 20, 8, dtype=torch.float64)
    q, k, v = (split_heads(t, 2) for t in mixer.qkv(x).chunk(3, -1))
    want = mixer.out(merge_heads(F.scaled_dot_product_attention(q, k, v)))
    assert_close(mixer(x, Layout()), want, atol=1e-12, rtol=0)


@pytest.mark.parametrize("n", [16, 19])
def test_combiner_causal_has_no_gradient_from_later_tokens(n: int) -> None:
    mixer = made(causal=True)
    x = torch.randn(1, n, 8, dtype=torch.float64, requires_grad=True)
    y = mixer(x, Layout())
    for i in range(n):
        (grad,) = torch.autograd.grad(y[:, i].sum(), x, retain_graph=True)
        assert not grad[:, i + 1 :].any()
        assert grad[:, : i + 1].abs().amax(-1).min() > 0, "every earlier token is seen"


def test_combiner_costs_n_to_the_power_of_one_and_a_half() -> None:
    mixer = made().float()

    def flops(n: int) -> int:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            mixer(torch.randn(1, n, 8), Layout())
        return counter.get_total_flops()

    assert flops(4096) < 8.5 * flops(1024), "4 times the tokens, 8 times the scores"
