"""Agent attention: pooled queries gather from all tokens and hand on to all tokens."""

from collections.abc import Sequence
from math import isqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers.convolution import Convolution
from models.layout import Layout, Tokens, check_grid
from models.mixers._heads import count_heads, merge_heads, split_heads
from models.mixers.base import MIXERS, TokenMixer, Traits
from models.ops.agent import agent_attention
from models.ops.attention import open_empty_rows

BLOCK = 7  # side of the coarse bias maps


@MIXERS.register
class AgentAttention(TokenMixer):
    """y = softmax(q A^T / sqrt(e) + B2) [softmax(A k^T / sqrt(e) + B1) v] + dwconv(v),  A = pool(q).

    `agents` tokens A come from q by averages over a square raster. Each bias is a coarse map, enlarged to the
    raster, plus one number for each row and one for each column of `grid`, interpolated on other rasters.
    Shape: (b, n, d) -> (b, n, d), n = prod(layout.grid).
    Cost:  O(n a d) time, O(a d) state.
    Paper: Han et al., 2023, arXiv:2312.08874, eq. 4-8. Departs from it: nothing.
    """

    traits = Traits(grid_axes=2, masks="hides", linear_time=True)

    def __init__(
        self, dim: int, *, agents: int = 49, grid: Sequence[int] = (14, 14), head_dim: int = 32
    ) -> None:
        super().__init__()
        self.side = isqrt(agents)
        if self.side**2 != agents:
            raise ValueError(f"agents must be a square number, got {agents}")
        self.heads = count_heads(dim, head_dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.local = Convolution(dim, dim, groups=dim)
        rows, columns = grid
        for side in ("in", "out"):
            for name, shape in (("maps", (BLOCK, BLOCK)), ("rows", (rows, 1)), ("columns", (1, columns))):
                table = nn.Parameter(torch.empty(self.heads, agents, *shape))
                nn.init.trunc_normal_(table, std=0.02)
                self.register_parameter(f"{side}_{name}", table)

    def forward(self, x: Tokens, layout: Layout) -> Tokens:
        grid = layout.need_grid(2, "agent")
        check_grid(grid, x, "agent")
        q, k, v = self.qkv(x).chunk(3, -1)
        in_bias = self.bias("in", grid)
        if layout.mask is not None:
            hidden = ~open_empty_rows(layout.mask)[:, None, None]
            in_bias = in_bias.masked_fill(hidden, -torch.inf)
        heads, agents, keys, values = (split_heads(t, self.heads) for t in (q, self.pool(q, layout), k, v))
        y = agent_attention(heads, agents, keys, values, self.bias("out", grid).mT, in_bias)
        return self.out(merge_heads(y) + self.local(v, layout))

    def pool(self, q: Tensor, layout: Layout) -> Tensor:
        """Means of the real queries over a square raster: (b, a, d)."""
        assert layout.grid is not None
        shape = (self.side, self.side)
        if layout.mask is None:
            return F.adaptive_avg_pool2d(q.mT.unflatten(-1, layout.grid), shape).flatten(2).mT
        real = layout.mask.to(q.dtype)[:, None]
        total, count = (
            F.adaptive_avg_pool2d(t.unflatten(-1, layout.grid), shape).flatten(2) for t in (q.mT * real, real)
        )
        return (total / count.clamp(min=1e-6)).mT

    def bias(self, side: str, grid: tuple[int, ...]) -> Tensor:
        """(1, h, a, n), the sum of the three tables."""
        maps, rows, columns = (getattr(self, f"{side}_{name}") for name in ("maps", "rows", "columns"))
        total = resize(maps, grid) + resize(rows, (grid[0], 1)) + resize(columns, (1, grid[1]))
        return total.flatten(2)[None]


def resize(table: Tensor, size: tuple[int, ...]) -> Tensor:
    """(h, a, y, x) on another raster, bilinear."""
    if tuple(table.shape[2:]) == size:
        return table
    return F.interpolate(table, size=size, mode="bilinear", align_corners=False)
