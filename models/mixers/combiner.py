"""Combiner: full attention by a factor, single tokens nearby and blocks of tokens further away."""

import math

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from models.layout import Layout, Tokens
from models.mixers._heads import count_heads, merge_heads, split_heads
from models.mixers.base import MIXERS, TokenMixer, Traits
from models.ops.attention import attend, open_empty_rows


@MIXERS.register
class CombinerAttention(TokenMixer):
    """p(j | i) = e^(q_i k_j) / z_i in i's own block, else e^(q_i K_r) / z_i * p(j | r), j in block r.

    z_i sums both kinds; p(j | r) = softmax over the block of Q_r k_j; Q_r and K_r are the largest values of
    relu(W q), relu(W k) over the block. Blocks have `block` tokens, or about sqrt(n). `causal`: earlier
    tokens of the block, earlier blocks.
    Shape: (b, n, d) -> (b, n, d).
    Cost:  O(n sqrt(n) d) time, O(n d) state.
    Paper: Ren et al., 2021, arXiv:2107.05768, sec. 4.1 (Combiner-Fixed). Departs from it: scores are divided
        by sqrt(e). The paper's code, when not causal, counts i's own block twice, single and whole; the
        paper's sets are disjoint, as here.
    """

    traits = Traits(masks="hides")

    def __init__(
        self, dim: int, *, block: int | None = None, causal: bool = False, head_dim: int = 32
    ) -> None:
        super().__init__()
        if block is not None and block < 1:
            raise ValueError(f"block must be positive, got {block}")
        self.block, self.causal = block, causal
        self.heads = count_heads(dim, head_dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.sum_q = nn.Linear(head_dim, head_dim, bias=False)
        self.sum_k = nn.Linear(head_dim, head_dim, bias=False)

    def forward(self, x: Tokens, layout: Layout) -> Tokens:
        n = x.shape[1]
        size = self.block or math.isqrt(max(n - 1, 0)) + 1
        count = -(-n // size)
        real = torch.ones_like(x[..., 0], dtype=torch.bool) if layout.mask is None else layout.mask
        real = nn.functional.pad(real, (0, count * size - n)).unflatten(1, (count, size))  # (b, s, l)
        x = nn.functional.pad(x, (0, 0, 0, count * size - n))
        q, k, v = (
            split_heads(t, self.heads).unflatten(2, (count, size)).transpose(1, 2).flatten(0, 1)
            for t in self.qkv(x).chunk(3, dim=-1)
        )  # (b s, h, l, e)
        keys, values = self.summaries(q, k, v, real)  # (b, h, s, e)

        def both(local: Tensor, whole: Tensor) -> Tensor:  # (b s, h, l + s, e)
            return torch.cat([local, whole.repeat_interleave(count, dim=0)], 2)

        allowed = open_empty_rows(self.allowed(real))[:, None]
        y = attend(q, both(k, keys), both(v, values), allowed)
        y = merge_heads(y).unflatten(0, (-1, count)).flatten(1, 2)
        return self.out(y[:, :n])

    def summaries(
        self, q: Tensor, k: Tensor, v: Tensor, real: Bool[Tensor, "b s l"]
    ) -> tuple[Tensor, Tensor]:
        """Key and value of each block: K_r and sum_j p(j | r) v_j, (b, h, s, e)."""
        b, count = real.shape[:2]
        hidden = ~real.flatten(0, 1)[:, None, :, None]
        most_q = self.sum_q(q).relu().masked_fill(hidden, 0.0).amax(2, keepdim=True)
        most_k = self.sum_k(k).relu().masked_fill(hidden, 0.0).amax(2)
        inside = open_empty_rows(real.flatten(0, 1))[:, None, None]
        value = attend(most_q, k, v, inside)[:, :, 0]
        return most_k.unflatten(0, (b, count)).transpose(1, 2), value.unflatten(0, (b, count)).transpose(1, 2)

    def allowed(self, real: Bool[Tensor, "b s l"]) -> Bool[Tensor, "bs l m"]:
        """Which of its block's tokens and of the blocks each token sees: (b s, l, l + s)."""
        count, size = real.shape[1:]
        place = torch.arange(count, device=real.device)
        if self.causal:
            near = torch.ones(size, size, dtype=torch.bool, device=real.device).tril()
            far = place[:, None] > place
        else:
            near = torch.ones(size, size, dtype=torch.bool, device=real.device)
            far = place[:, None] != place
        near = near & real.flatten(0, 1)[:, None]
        far = (far & real.any(2)[:, None]).flatten(0, 1)[:, None].expand(-1, size, -1)
        return torch.cat([near, far], -1)
