"""Scored attention: global attention whose scores also depend on where query and key lie."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.layout import Layout, Tokens
from models.mixers._heads import count_heads, merge_heads, split_heads
from models.mixers.base import MIXERS, TokenMixer, Traits
from models.ops.attention import attend, open_empty_rows
from models.registry import Part
from models.scores.base import SCORES, Score


@MIXERS.register
class ScoredAttention(TokenMixer):
    """y = (softmax(q k^T / sqrt(e) + B) * C) v, q and k turned; B sums, C multiplies what `scores` give.

    Shape: (b, n, d) -> (b, n, d). On rasters of `axes` axes, or along the sequence when there is one.
    Cost:  O(n^2 d) time; with a C, O(n^2) state.
    Paper: Luo et al., 2022, arXiv:2205.13401, eq. 9. Departs from it: nothing.
    """

    traits = Traits(prefix=True)

    def __init__(
        self,
        dim: int,
        *,
        scores: Sequence[Part] = ("relative", "toeplitz"),
        axes: int = 1,
        head_dim: int = 32,
    ) -> None:
        super().__init__()
        self.heads = count_heads(dim, head_dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.scores = nn.ModuleList(SCORES.build(score, self.heads, axes) for score in scores)

    def forward(self, x: Tokens, layout: Layout) -> Tokens:
        n = x.shape[1]
        q, k, v = (split_heads(t, self.heads) for t in self.qkv(x).chunk(3, dim=-1))
        bias: Tensor | None = None
        gain: Tensor | None = None
        for score in self.scores:
            assert isinstance(score, Score)
            q, k = score.turn(q, k, layout)
            bias, gain = _join(bias, score.bias(layout, n), 0), _join(gain, score.gain(layout, n), 1)
        if layout.mask is not None:
            keys = open_empty_rows(layout.mask)[:, None, None]
            bias = keys if bias is None else bias.masked_fill(~keys, -torch.inf)
        elif bias is not None:
            bias = bias[None]
        if gain is None:
            return self.out(merge_heads(attend(q, k, v, bias)))
        logits = q @ k.mT / q.shape[-1] ** 0.5
        if bias is not None:
            logits = logits.masked_fill(~bias, -torch.inf) if bias.dtype == torch.bool else logits + bias
        return self.out(merge_heads((logits.softmax(-1) * gain) @ v))


def _join(one: Tensor | None, other: Tensor | None, by: int) -> Tensor | None:
    """Sum (by = 0) or product (by = 1) of what is there."""
    if one is None or other is None:
        return one if other is None else other
    return one * other if by else one + other
