"""Gated positional self-attention: each head weighs what tokens hold against where they are."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from models.layout import Layout, Tokens, check_grid
from models.mixers._heads import count_heads, merge_heads, split_heads
from models.mixers.base import MIXERS, TokenMixer, Traits
from models.ops.attention import attend, open_empty_rows


@MIXERS.register
class GatedPositionalAttention(TokenMixer):
    """y_h = ((1 - g) softmax(q k^T / sqrt(e)) + g softmax(w . (dx, dy, dx^2 + dy^2) + c)) v for each head h.

    g = sigmoid(gate_h); w and c are the head's own, (dx, dy) leads from the query to the key.
    Heads start as a convolution: those of a square of heads look at the places of a square kernel, as sharply
    as `locality` says; values start as the tokens themselves, gates at 1.
    Shape: (b, n, d) -> (b, n, d) on a raster of 2 axes.
    Cost:  O(n^2 d) time, O(h n^2) state.
    Paper: d'Ascoli et al., 2021, arXiv:2103.10697, eq. 7-9. Departs from it: rows are not divided by their
        sum, which is one.
    """

    traits = Traits(grid_axes=2)

    def __init__(self, dim: int, *, head_dim: int = 32, locality: float = 1.0) -> None:
        super().__init__()
        self.heads = count_heads(dim, head_dim)
        self.qk, self.out = nn.Linear(dim, 2 * dim, bias=False), nn.Linear(dim, dim)
        # no nn.Linear: those are drawn anew when a model is put together
        self.value = nn.Parameter(torch.eye(dim))
        self.place_weight = nn.Parameter(start(self.heads) * locality)
        self.place_bias = nn.Parameter(torch.zeros(self.heads))
        self.gate = nn.Parameter(torch.ones(self.heads))

    def forward(self, x: Tokens, layout: Layout) -> Tokens:
        grid = layout.need_grid(2, "gated_positional")
        check_grid(grid, x, "gated_positional")
        q, k = (split_heads(t, self.heads) for t in self.qk(x).chunk(2, dim=-1))
        v = split_heads(F.linear(x, self.value), self.heads)
        places = F.linear(offsets(grid, x), self.place_weight, self.place_bias).permute(2, 0, 1)  # (h, n, n)
        allowed = None
        if layout.mask is not None:
            allowed = open_empty_rows(layout.mask[:, None, None])
            places = places.masked_fill(~allowed, -torch.inf)
        gate = self.gate.sigmoid()[:, None, None]
        y = (1 - gate) * attend(q, k, v, allowed) + (gate * places.softmax(-1)) @ v
        return self.out(merge_heads(y))


def offsets(grid: tuple[int, ...], like: Tensor) -> Float[Tensor, "n n 3"]:
    """From each token to each other: columns, rows, squared distance."""
    h, w = (torch.arange(size, device=like.device, dtype=like.dtype) for size in grid)
    rows, columns = (t.flatten() for t in torch.meshgrid(h, w, indexing="ij"))
    dy, dx = (t[None, :] - t[:, None] for t in (rows, columns))
    return torch.stack([dx, dy, dx**2 + dy**2], -1)


def start(heads: int) -> Float[Tensor, "h 3"]:
    """-(d - d_h)^2 up to a constant: head h looks at its own place d_h of a square kernel."""
    side = int(heads**0.5)
    middle = (side - 1) / 2
    weight = torch.zeros(heads, 3)
    nn.init.trunc_normal_(weight, std=0.02)
    for head in range(side**2):
        row, column = head % side, head // side
        weight[head] = torch.tensor([2 * (column - middle), 2 * (row - middle), -1.0])
    return weight
