"""Shifted windows: attention inside windows of a raster, with a learned bias for each relative position."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from models.layout import Layout, Tokens, check_grid
from models.mixers._heads import count_heads
from models.mixers.base import MIXERS, TokenMixer, Traits
from models.ops.attention import attend, open_empty_rows
from models.ops.windows import merge, pad_to_multiple, partition, regions, relative_index


@MIXERS.register
class WindowAttention(TokenMixer):
    """y = softmax(q k^T / sqrt(e) + B) v within windows; B[i, j] = table[place_i - place_j] for each head.

    Shape: (b, n, d) -> (b, n, d), n = prod(layout.grid). `shifted` moves the windows by half their size.
    Cost:  O(n w^k d) time for windows of w on k axes.
    Paper: Liu et al., 2021, arXiv:2103.14030, eq. 4. Departs from it: an axis no longer than the window
        is one window and not shifted, each axis by itself; tokens added as padding are hidden, unless
        `hide_padding` is false, as in the paper's code.
    """

    traits = Traits(grid_axes=2, linear_time=True)

    def __init__(
        self,
        dim: int,
        *,
        window: int | Sequence[int] = 7,
        axes: int = 2,
        shifted: bool = False,
        head_dim: int = 32,
        hide_padding: bool = True,
    ) -> None:
        super().__init__()
        self.window = (window,) * axes if isinstance(window, int) else tuple(window)
        if len(self.window) != axes or min(self.window) < 1:
            raise ValueError(f"window must be {axes} positive sizes, got {window}")
        self.axes, self.shifted, self.hide_padding = axes, shifted, hide_padding
        self.heads = count_heads(dim, head_dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.bias = nn.Parameter(torch.empty(math.prod(2 * w - 1 for w in self.window), self.heads))
        nn.init.trunc_normal_(self.bias, std=0.02)

    def forward(self, x: Tokens, layout: Layout) -> Tokens:
        grid = layout.need_grid(self.axes, "window")
        check_grid(grid, x, "window")
        window = tuple(min(w, size) for w, size in zip(self.window, grid, strict=True))
        shift = [w // 2 if self.shifted and size > w else 0 for w, size in zip(window, grid, strict=True)]
        raster = pad_to_multiple(x.unflatten(1, grid), window)
        padded = raster.shape[1:-1]
        qkv = self._cut(self.qkv(raster), window, shift)  # (b, windows, n, 3 d)
        q, k, v = qkv.unflatten(-1, (3, self.heads, -1)).permute(3, 0, 1, 4, 2, 5).flatten(2, 3)
        y = attend(
            q, k, v, self._bias(layout, grid, padded, window, shift)
        )  # heads of all windows side by side
        y = y.unflatten(1, (-1, self.heads)).transpose(2, 3).flatten(-2)
        y = merge(y, window, padded)
        if any(shift):
            y = y.roll(shift, dims=tuple(range(1, self.axes + 1)))
        y = y[(slice(None), *(slice(size) for size in grid))]
        return self.out(y.flatten(1, self.axes))

    def _cut(self, raster: Tensor, window: Sequence[int], shift: Sequence[int]) -> Tensor:
        if any(shift):
            raster = raster.roll([-s for s in shift], dims=tuple(range(1, self.axes + 1)))
        return partition(raster, window)

    def _bias(
        self,
        layout: Layout,
        grid: Sequence[int],
        padded: Sequence[int],
        window: Sequence[int],
        shift: Sequence[int],
    ) -> Float[Tensor, "b wh n n"]:
        index = relative_index(window, self.window, self.bias.device)
        bias = self.bias[index].permute(2, 0, 1)[None, None]  # (1, 1, h, n, n)
        allowed = None
        if any(shift):
            region = regions(padded, window, shift, self.bias.device)
            allowed = region[..., :, None] == region[..., None, :]  # (1, windows, n, n)
        if layout.mask is not None or (self.hide_padding and tuple(padded) != tuple(grid)):
            real = self.bias.new_ones(1, *grid, 1, dtype=torch.bool)
            if layout.mask is not None:
                real = layout.mask.unflatten(1, grid)[..., None]
            # without hide_padding the raster's own padding counts as tokens, what the caller hides does not
            real = pad_to_multiple(real, window) if self.hide_padding else ~pad_to_multiple(~real, window)
            keys = self._cut(real, window, shift).mT  # (b, windows, 1, n)
            allowed = keys if allowed is None else allowed & keys
        if allowed is not None:
            hidden = ~open_empty_rows(allowed)[:, :, None]
            bias = bias.masked_fill(hidden, -torch.inf)
        count = math.prod([size // w for size, w in zip(padded, window, strict=True)])
        return bias.expand(-1, count, -1, *[math.prod(window)] * 2).flatten(1, 2)
