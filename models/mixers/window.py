"""Shifted windows: attention inside windows of a raster, with a learned bias for each relative position."""

import math
from collections.abc import Sequence

import torch
from torch import nn

from models.layout import Layout, Tokens, check_grid
from models.mixers._heads import count_heads
from models.mixers.base import MIXERS, TokenMixer, Traits
from models.ops.local import Windows, local_attention


@MIXERS.register
class WindowAttention(TokenMixer):
    """y = softmax(q k^T / sqrt(e) + B) v within windows; B[i, j] = table[place_i - place_j] for each head.

    Shape: (b, n, d) -> (b, n, d), n = prod(layout.grid). `shifted` moves the windows by half their size;
        `strided` spreads each over the whole raster, a grid of `window` tokens at equal steps; without
        `bias` there is no B.
    Cost:  O(n w^k d) time for windows of w on k axes.
    Paper: Liu et al., 2021, arXiv:2103.14030, eq. 4; strided: Tu et al., 2022, arXiv:2204.01697, sec. 3.2.
        Departs from it: an axis no longer than the window is one window and not shifted, each axis by
        itself; tokens added as padding are hidden, unless `hide_padding` is false, as in the papers' code.
    """

    traits = Traits(grid_axes=2, linear_time=True)

    def __init__(
        self,
        dim: int,
        *,
        window: int | Sequence[int] = 7,
        axes: int = 2,
        shifted: bool = False,
        strided: bool = False,
        bias: bool = True,
        head_dim: int = 32,
        hide_padding: bool = True,
    ) -> None:
        super().__init__()
        self.window = (window,) * axes if isinstance(window, int) else tuple(window)
        if len(self.window) != axes or min(self.window) < 1:
            raise ValueError(f"window must be {axes} positive sizes, got {window}")
        if shifted and strided:
            raise ValueError("windows are shifted or strided, not both: a strided one is everywhere already")
        self.axes, self.shifted, self.strided, self.hide_padding = axes, shifted, strided, hide_padding
        self.heads = count_heads(dim, head_dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.bias = None
        if bias:
            self.bias = nn.Parameter(torch.empty(math.prod(2 * w - 1 for w in self.window), self.heads))
            nn.init.trunc_normal_(self.bias, std=0.02)

    def forward(self, x: Tokens, layout: Layout) -> Tokens:
        grid = layout.need_grid(self.axes, "window")
        check_grid(grid, x, "window")
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).unflatten(1, grid).unbind(-3)
        windows = Windows.of(grid, self.window, shifted=self.shifted, strided=self.strided)
        pad = None
        if not self.hide_padding:  # keys and values of a token of zeros
            _, key, value = self.qkv.bias.unflatten(0, (3, self.heads, -1))
            pad = (key, value)
        y = local_attention(q, k, v, self.bias, windows, mask=layout.mask, pad=pad)
        return self.out(y.flatten(-2).flatten(1, self.axes))
