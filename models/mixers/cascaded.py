"""Cascaded group attention: each head sees its share of the channels, and what the head before it found."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from models.layers.convolution import Convolution
from models.layout import Layout, Tokens, check_grid
from models.mixers.base import MIXERS, TokenMixer, Traits
from models.ops.attention import attend, open_empty_rows
from models.ops.windows import merge, pad_to_multiple, partition
from models.registry import Part


@MIXERS.register
class CascadedGroupAttention(TokenMixer):
    """y_i = softmax(dw(q_i) k_i^T / sqrt(e) + B_i) v_i of x_i + y_(i-1); out(relu(all y side by side)).

    x_i is the i-th of `heads` shares of the channels; queries and keys have `key_dim` = e channels, values
    as many as the share; dw is a depthwise convolution of `kernels[i]`; B_i is a table of |dy| and |dx|. All
    that happens in windows of `window` x `window`, every map has a norm behind it.
    Shape: (b, n, d) -> (b, n, d) on a raster of 2 axes.
    Cost:  O(n (d^2 / heads + d w^2)) time for windows of w.
    Paper: Liu et al., 2023, arXiv:2305.07027, eq. 2-3. Departs from it: tokens added as padding are hidden,
        unless `hide_padding` is false, as in the authors' code; the last norm starts at one, not at zero.
    """

    traits = Traits(grid_axes=2, linear_time=True)

    def __init__(
        self,
        dim: int,
        *,
        heads: int = 4,
        key_dim: int = 16,
        window: int = 7,
        kernels: Sequence[int] = (5, 5, 5, 5),
        norm: Part = "batch",
        hide_padding: bool = True,
    ) -> None:
        super().__init__()
        if heads < 1 or dim % heads or len(kernels) < heads:
            raise ValueError(f"heads must divide dim and have a kernel each, got {dim}, {heads}, {kernels}")
        self.window, self.hide_padding, self.key_dim = window, hide_padding, key_dim
        share = dim // heads
        self.qkv = nn.ModuleList(
            Convolution(share, 2 * key_dim + share, kernel=1, bias=False, norm=norm) for _ in range(heads)
        )
        self.near = nn.ModuleList(
            Convolution(key_dim, key_dim, kernel=kernel, groups=key_dim, bias=False, norm=norm)
            for kernel in kernels[:heads]
        )
        self.bias = nn.Parameter(torch.zeros(heads, window**2))
        self.out = Convolution(dim, dim, kernel=1, bias=False, norm=norm)

    def forward(self, x: Tokens, layout: Layout) -> Tokens:
        grid = layout.need_grid(2, "cascaded")
        check_grid(grid, x, "cascaded")
        window = (min(self.window, grid[0]), min(self.window, grid[1]))
        raster = pad_to_multiple(x.unflatten(1, grid), window)
        pieces = partition(raster, window)
        inner = Layout(grid=window, mask=self._real(raster, layout, grid, window))
        y = self._cascade(pieces.flatten(0, 1), inner)  # every window an image of its own
        y = merge(y.unflatten(0, pieces.shape[:2]), window, raster.shape[1:3])
        return y[:, : grid[0], : grid[1]].flatten(1, 2)

    def _cascade(self, x: Tokens, layout: Layout) -> Tokens:
        table = self._table(layout.grid or (), layout.mask)
        found: list[Tensor] = []
        sizes = [self.key_dim, self.key_dim, x.shape[-1] // len(self.qkv)]
        for i, share in enumerate(x.chunk(len(self.qkv), dim=-1)):
            given = share + found[-1] if found else share
            q, k, v = self.qkv[i](given, layout).split(sizes, dim=-1)
            q = self.near[i](q, layout)
            found.append(attend(q[:, None], k[:, None], v[:, None], table[:, i : i + 1])[:, 0])
        return self.out(F.relu(torch.cat(found, -1)), layout)

    def _table(self, window: tuple[int, ...], mask: Tensor | None) -> Float[Tensor, "b h n n"]:
        """B, with -inf where a token is hidden."""
        rows, columns = (torch.arange(size, device=self.bias.device) for size in window)
        apart = [(t[:, None] - t[None]).abs() for t in (rows, columns)]
        index = apart[0][:, None, :, None] * self.window + apart[1][None, :, None, :]
        bias = self.bias[:, index.flatten(2).flatten(0, 1)][None]
        return bias if mask is None else bias.masked_fill(~open_empty_rows(mask[:, None, None]), -torch.inf)

    def _real(
        self, raster: Tensor, layout: Layout, grid: tuple[int, ...], window: tuple[int, ...]
    ) -> Tensor | None:
        """(b windows, n), or None where every token counts."""
        padded = tuple(raster.shape[1:3]) != tuple(grid) and self.hide_padding
        if layout.mask is None and not padded:
            return None
        real = raster.new_ones(raster.shape[0], *grid, 1, dtype=torch.bool)
        if layout.mask is not None:
            real = layout.mask.unflatten(1, grid)[..., None]
        real = pad_to_multiple(real, window) if self.hide_padding else ~pad_to_multiple(~real, window)
        return partition(real, window).flatten(0, 1).squeeze(-1)
