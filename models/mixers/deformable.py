"""Deformable attention: all queries share a few keys, sampled where the queries themselves say."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from models.layers.convolution import Convolution, coarser
from models.layout import Layout, Tokens, check_grid
from models.mixers._heads import count_heads, merge_heads, split_heads
from models.mixers.base import MIXERS, TokenMixer, Traits
from models.ops.attention import attend


@MIXERS.register
class DeformableAttention(TokenMixer):
    """y = softmax(q k^T / sqrt(e) + B) v,  k, v = W x(p),  p = reference + s tanh(offset(q)) / places.

    References stand in the middle of every `stride`-th place; x is read between places, bilinear. Each of
    `groups` of channels has its own offsets, from a depthwise convolution, norm, GELU and a linear map of q.
    B is a table of displacements q - p for a raster of `grid`, read between its entries. `reach` is s.
    Shape: (b, n, d) -> (b, n, d), n = prod(layout.grid).
    Cost:  O(n m d) time, O(n m) memory for m = n / stride^2 sampled keys.
    Paper: Xia et al., 2022, arXiv:2201.00520, eq. 5-9. Departs from it: nothing; with `corners` positions
        -1 and 1 are the corner places, as the paper's code reads them, so that a reference is not quite on
        its place; without, they are the raster's edges, and it is.
    """

    traits = Traits(grid_axes=2, masks="hides")

    def __init__(
        self,
        dim: int,
        *,
        groups: int = 1,
        stride: int = 1,
        kernel: int = 5,
        reach: float = 2.0,
        grid: Sequence[int] = (14, 14),
        head_dim: int = 32,
        corners: bool = True,
    ) -> None:
        super().__init__()
        self.heads = count_heads(dim, head_dim)
        if groups < 1 or self.heads % groups:
            raise ValueError(f"groups must divide the heads, got {self.heads} heads, groups={groups}")
        self.groups, self.reach, self.corners = groups, reach, corners
        self.q, self.kv, self.out = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim), nn.Linear(dim, dim)
        width = dim // groups
        self.look = Convolution(
            width,
            width,
            kernel=kernel,
            stride=stride,
            pad=kernel // 2,
            groups=width,
            norm="layer",
            act="gelu",
        )
        self.offset = nn.Linear(width, 2, bias=False)
        self.table = nn.Parameter(torch.empty(self.heads, *(2 * size - 1 for size in grid)))
        nn.init.trunc_normal_(self.table, std=0.01)

    def forward(self, x: Tokens, layout: Layout) -> Tokens:
        grid = layout.need_grid(2, "deformable")
        check_grid(grid, x, "deformable")
        if layout.mask is not None:
            x = x * layout.mask[..., None]
        q = self.q(x)
        places = self.places(q, layout)  # (b g, m, 2)
        k, v = self.kv(self.sample(x, places, grid)).chunk(2, -1)
        q, k, v = (split_heads(t, self.heads) for t in (q, k, v))
        y = attend(q, k, v, self.bias(places, grid))
        return self.out(merge_heads(y))

    def places(self, q: Tokens, layout: Layout) -> Float[Tensor, "bg m 2"]:
        """Where each group looks: rows and columns, -1 and 1 at the ends of the raster."""
        mask = None if layout.mask is None else layout.mask.repeat_interleave(self.groups, 0)
        layout = layout.with_(mask=mask)
        looked = self.look(self._by_group(q), layout)
        size = coarser(layout, self.look.stride).need_grid(2, "deformable")
        span = torch.tensor(size, device=q.device, dtype=q.dtype)
        return references(size, q) + self.offset(looked).tanh() * (self.reach / span)

    def sample(self, x: Tokens, places: Tensor, grid: tuple[int, ...]) -> Float[Tensor, "b m d"]:
        """Read x between its places, zero outside the raster, each group of channels at its own."""
        maps = self._by_group(x).mT.unflatten(-1, grid)
        seen = F.grid_sample(maps, places[:, :, None].flip(-1), align_corners=self.corners)  # (b g, c, m, 1)
        return seen.flatten(2).unflatten(0, (-1, self.groups)).flatten(1, 2).mT

    def bias(self, places: Tensor, grid: tuple[int, ...]) -> Float[Tensor, "b h n m"]:
        """The table at the displacement of every query from every key."""
        apart = (references(grid, places)[:, :, None] - places[:, None]) / 2  # (b g, n, m, 2)
        if not self.corners:  # steps of the raster are steps of the table
            apart = apart * torch.tensor(
                [n / max(n - 1, 1) for n in grid], dtype=apart.dtype, device=apart.device
            )
        tables = self.table.unflatten(0, (self.groups, -1)).repeat(len(places) // self.groups, 1, 1, 1)
        read = F.grid_sample(tables, apart.flip(-1), align_corners=True)
        return read.unflatten(0, (-1, self.groups)).flatten(1, 2)

    def _by_group(self, x: Tokens) -> Float[Tensor, "bg n c"]:
        return x.unflatten(-1, (self.groups, -1)).transpose(1, 2).flatten(0, 1)


def references(grid: Sequence[int], like: Tensor) -> Float[Tensor, "1 n 2"]:
    """The middle of every place of a raster, whose edges are at -1 and 1."""
    axes = [(2 * torch.arange(n, device=like.device, dtype=like.dtype) + 1) / n - 1 for n in grid]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flatten(0, 1)[None]
