"""Manhattan attention: keys fade with their distance in rows plus their distance in columns."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.layers.convolution import Convolution
from models.layout import Layout, Tokens, check_grid
from models.mixers._heads import count_heads
from models.mixers.base import MIXERS, TokenMixer, Traits
from models.ops.attention import attend, open_empty_rows
from models.ops.rotary import turn


@MIXERS.register
class ManhattanAttention(TokenMixer):
    """y = softmax(R q (R k)^T / sqrt(e) + log gamma_h (|dy| + |dx|)) v + dwconv(v); R turns by place.

    `decomposed`: the same along the row of a token first, then along its column. Head h of `heads` has
    gamma_h = 1 - 2^(-start - spread h / heads); places are counted row by row.
    Shape: (b, n, d) -> (b, n, d), n = prod(layout.grid).
    Cost:  O(n^2 d) time, decomposed O(n^1.5 d).
    Paper: Fan et al., 2023, arXiv:2309.11523, eq. 4-7. Departs from it: the paper multiplies the softmax by
        gamma^distance; its code, of which its numbers are, adds the logarithm before the softmax, as here.
    """

    traits = Traits(grid_axes=2)

    def __init__(
        self,
        dim: int,
        *,
        head_dim: int = 32,
        decomposed: bool = False,
        start: float = 2.0,
        spread: float = 4.0,
        kernel: int = 5,
    ) -> None:
        super().__init__()
        self.heads, self.decomposed = count_heads(dim, head_dim), decomposed
        if head_dim % 2:
            raise ValueError(f"head_dim must be even to turn its channels, got {head_dim}")
        self.gammas = [1 - 2 ** (-start - spread * h / self.heads) for h in range(self.heads)]
        self.qkv = nn.Linear(dim, 3 * dim)
        self.local = Convolution(dim, dim, kernel=kernel, groups=dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tokens, layout: Layout) -> Tokens:
        grid = layout.need_grid(2, "manhattan")
        check_grid(grid, x, "manhattan")
        qkv = self.qkv(x)
        q, k, v = qkv.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (b, h, n, e)
        angles = self.angles(q)
        q, k = turn(q, angles), turn(k, angles)
        y = self._by_axis(q, k, v, layout, grid) if self.decomposed else self._whole(q, k, v, layout, grid)
        return self.out(y.transpose(1, 2).flatten(2) + self.local(qkv.chunk(3, -1)[2], layout))

    def _whole(self, q: Tensor, k: Tensor, v: Tensor, layout: Layout, grid: Sequence[int]) -> Tensor:
        rows, columns = (self.decay(size, q) for size in grid)
        bias = rows[:, :, None, :, None] + columns[:, None, :, None, :]  # (h, y, x, y, x)
        return attend(q, k, v, hide(bias.flatten(3).flatten(1, 2)[None], layout.mask))

    def _by_axis(self, q: Tensor, k: Tensor, v: Tensor, layout: Layout, grid: Sequence[int]) -> Tensor:
        b, height, width = len(q), *grid
        q, k, v = (t.unflatten(2, grid).transpose(1, 2) for t in (q, k, v))  # (b, y, h, x, e)
        mask = None if layout.mask is None else layout.mask.unflatten(1, grid)
        row_mask = None if mask is None else mask.flatten(0, 1)
        bias = hide(self.decay(width, q)[None], row_mask)
        v = attend(q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1), bias).unflatten(0, (b, height))
        q, k, v = (t.permute(0, 3, 2, 1, 4).flatten(0, 1) for t in (q, k, v))  # (b x, h, y, e)
        column_mask = None if mask is None else mask.mT.flatten(0, 1)
        y = attend(q, k, v, hide(self.decay(height, q)[None], column_mask)).unflatten(0, (b, width))
        return y.permute(0, 2, 3, 1, 4).flatten(2, 3)

    def decay(self, size: int, like: Tensor) -> Tensor:
        """Of each head, log gamma_h |i - j| along one axis: (h, size, size)."""
        place = torch.arange(size, device=like.device)
        distance = (place[:, None] - place[None]).abs()
        rates = torch.tensor(self.gammas, device=like.device, dtype=torch.float64).log()
        return (rates[:, None, None] * distance).to(like.dtype)

    def angles(self, like: Tensor) -> Tensor:
        """Of token i, pair p: i * 10000^(-p / (pairs - 1))."""
        n, pairs = like.shape[2], like.shape[3] // 2
        rates = 10000.0 ** -torch.linspace(0, 1, pairs, device=like.device, dtype=torch.float64)
        place = torch.arange(n, device=like.device)
        return (place[:, None] * rates).to(torch.promote_types(like.dtype, torch.float32))


def hide(bias: Tensor, mask: Tensor | None) -> Tensor:
    """(1, h, m, n) without the keys that a mask (b, n) hides: (b, h, m, n)."""
    if mask is None:
        return bias
    return bias.masked_fill(~open_empty_rows(mask)[:, None, None], -torch.inf)
