"""Neighbourhood attention: each token attends to those nearest to it, as many at a border as inside."""

import math
from collections.abc import Sequence

import torch
from torch import nn

from models.layout import Layout, Tokens, check_grid
from models.mixers._heads import count_heads
from models.mixers.base import MIXERS, TokenMixer, Traits
from models.ops.neighbourhood import Neighbourhood, neighbourhood_attention


@MIXERS.register
class NeighbourhoodAttention(TokenMixer):
    """y = softmax(q k^T / sqrt(e) + B) v over the `window` nearest keys on each of `axes` axes.

    With `dilation` d the keys are those of the query's own residue modulo d; on a `causal` axis they are the
    query and those before it. B is a learned table of relative offsets, if `bias`.
    Shape: (b, n, d) -> (b, n, d), n = prod(layout.grid).
    Cost:  O(n w^k d) time for windows of w on k axes; scores of one step at a time.
    Paper: Hassani et al., 2022, arXiv:2204.07143, eq. 1-3; dilation, arXiv:2209.15001, eq. 1-4; three axes,
        causal ones and tiles, arXiv:2403.04690, sec. 3-4. Departs from it: an axis shorter than its window is
        seen whole, where the paper's code refuses it.
    """

    traits = Traits(grid_axes=2, linear_time=True, masks="hides")

    def __init__(
        self,
        dim: int,
        *,
        window: int | Sequence[int] = 7,
        dilation: int | Sequence[int] = 1,
        causal: bool | Sequence[bool] = False,
        axes: int = 2,
        head_dim: int = 32,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.hood = Neighbourhood.on(axes, window, dilation, causal)
        self.heads = count_heads(dim, head_dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.bias = None
        if bias:
            self.bias = nn.Parameter(torch.empty(math.prod(2 * w - 1 for w in self.hood.size), self.heads))
            nn.init.trunc_normal_(self.bias, std=0.02)

    def forward(self, x: Tokens, layout: Layout) -> Tokens:
        grid = layout.need_grid(len(self.hood.size), "neighbourhood")
        check_grid(grid, x, "neighbourhood")
        q, k, v = self.qkv(x).unflatten(1, grid).unflatten(-1, (3, self.heads, -1)).unbind(-3)
        y = neighbourhood_attention(q, k, v, self.bias, self.hood, mask=layout.mask)
        return self.out(y.flatten(-2).flatten(1, -2))
