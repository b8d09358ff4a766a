"""Bi-level routing attention: each region picks the regions it matches best, its tokens attend to theirs."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from models.layers.convolution import Convolution
from models.layout import Layout, Tokens, check_grid
from models.mixers._heads import count_heads
from models.mixers.base import MIXERS, TokenMixer, Traits
from models.ops.attention import attend, open_empty_rows
from models.ops.windows import merge, pad_to_multiple, partition


@MIXERS.register
class BiLevelAttention(TokenMixer):
    """y = softmax(q K^T / sqrt(d)) V + dwconv(v), K and V of the `topk` regions with most mean(q) . mean(k).

    The raster is cut into `regions` x `regions`. No gradient passes through the choice.
    Shape: (b, n, d) -> (b, n, d), n = prod(layout.grid).
    Cost:  O(n topk n / regions^2 d) time.
    Paper: Zhu et al., 2023, arXiv:2303.08810, eq. 3-8. Departs from it: a raster that the regions do not
        divide is padded, and padding hidden; the paper's code pads for dense tasks, and attends to it.
    """

    traits = Traits(grid_axes=2, masks="hides")

    def __init__(
        self, dim: int, *, regions: int = 7, topk: int = 4, head_dim: int = 32, kernel: int = 5
    ) -> None:
        super().__init__()
        if not 1 <= topk <= regions**2:
            raise ValueError(f"topk must be from 1 to regions^2 = {regions**2}, got {topk}")
        self.heads = count_heads(dim, head_dim)
        self.regions, self.topk = regions, topk
        self.qkv = nn.Linear(dim, 3 * dim)
        self.local = Convolution(dim, dim, kernel=kernel, groups=dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tokens, layout: Layout) -> Tokens:
        grid = layout.need_grid(2, "bi-level")
        check_grid(grid, x, "bi-level")
        size = [-(-side // self.regions) for side in grid]
        whole = [s * self.regions for s in size]
        qkv = self.qkv(x)
        cut = partition(pad_to_multiple(qkv.unflatten(1, grid), whole), size)  # (b, regions, m, 3 d)
        real = None
        if layout.mask is not None or tuple(whole) != grid:
            real = (
                x.new_ones(1, *grid, 1) if layout.mask is None else layout.mask.unflatten(1, grid)[..., None]
            )
            real = partition(pad_to_multiple(real.bool(), whole), size).squeeze(-1)  # (1 or b, regions, m)
            real = real.expand(len(x), -1, -1)
        y = self._attend(cut, real)
        y = merge(y, size, whole)[:, : grid[0], : grid[1]].flatten(1, 2)
        return self.out(y + self.local(qkv.chunk(3, -1)[2], layout))

    def _attend(self, qkv: Tensor, real: Tensor | None) -> Float[Tensor, "b r m d"]:
        q, k, v = qkv.chunk(3, -1)
        chosen = self.route(q, k, real)
        rows = torch.arange(len(q), device=q.device)[:, None, None]
        keys = qkv[..., q.shape[-1] :][rows, chosen].flatten(2, 3)  # (b, r, topk m, 2 d)
        q = q * (self.heads**-0.5)  # attend divides by the width of a head, the paper by that of all
        q, k, v = (
            t.unflatten(-1, (self.heads, -1)).transpose(2, 3).flatten(0, 1) for t in (q, *keys.chunk(2, -1))
        )
        allowed = None
        if real is not None:
            allowed = open_empty_rows(real[rows, chosen].flatten(2)).flatten(0, 1)[:, None, None]
        return attend(q, k, v, allowed).transpose(1, 2).flatten(2).unflatten(0, (len(qkv), -1))

    def route(
        self, q: Float[Tensor, "b r m d"], k: Float[Tensor, "b r m d"], real: Tensor | None = None
    ) -> Int[Tensor, "b r topk"]:
        """For every region the ones it attends to, best first."""
        if real is None:
            q, k = q.detach().mean(2), k.detach().mean(2)
            return (q @ k.mT).topk(self.topk, dim=-1).indices
        weight = real[..., None].to(q.dtype)
        count = weight.sum(2).clamp(min=1)
        q, k = ((t.detach() * weight).sum(2) / count for t in (q, k))
        scores = (q @ k.mT).masked_fill(~real.any(-1)[:, None], -torch.inf)
        return scores.topk(self.topk, dim=-1).indices
