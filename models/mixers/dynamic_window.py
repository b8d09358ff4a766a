"""Attention in groups of near or of far tokens, with a bias that a network computes for any group size."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from models.layout import Layout, Tokens, check_grid
from models.mixers._heads import count_heads
from models.mixers.base import MIXERS, TokenMixer, Traits
from models.ops.local import Windows, local_attention


@MIXERS.register
class DynamicWindowAttention(TokenMixer):
    """y = softmax(q k^T / sqrt(e) + MLP(place_i - place_j)) v within groups.

    Groups are `group` x `group` neighbours (short distance), or, with an `interval` I, all tokens whose
    places are equal modulo I (long distance): their size follows the raster. The MLP is a linear map of the
    offset, in tokens of the group, to d / 16 channels, then three times norm, ReLU and a linear map.
    Shape: (b, n, d) -> (b, n, d) on a raster of `axes` axes.
    Cost:  O(n g d) time for groups of g tokens; g = n / I^2 with an interval.
    Paper: Wang et al., 2021, arXiv:2108.00154, eq. 1-3. Departs from it: d / 16 is the authors' code, the
        paper prints d / 4; tokens added as padding are hidden; where I does not divide the raster, the steps
        of a group are a little shorter.
    """

    traits = Traits(grid_axes=2)

    def __init__(
        self, dim: int, *, group: int = 7, interval: int | None = None, axes: int = 2, head_dim: int = 32
    ) -> None:
        super().__init__()
        if min(group, interval or 1) < 1:
            raise ValueError(f"group and interval must be positive, got {group} and {interval}")
        self.group, self.interval, self.axes = group, interval, axes
        self.heads = count_heads(dim, head_dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        hidden = max(dim // 16, 1)
        layers: list[nn.Module] = [nn.Linear(axes, hidden)]
        for width in (hidden, hidden, self.heads):
            layers += [nn.LayerNorm(hidden), nn.ReLU(), nn.Linear(hidden, width)]
        self.bias = nn.Sequential(*layers)

    def forward(self, x: Tokens, layout: Layout) -> Tokens:
        grid = layout.need_grid(self.axes, "dynamic_window")
        check_grid(grid, x, "dynamic_window")
        if self.interval is None:
            windows = Windows.of(grid, (self.group,) * self.axes)
        else:
            size = tuple(-(-n // self.interval) for n in grid)
            windows = Windows.of(grid, size, strided=True)
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).unflatten(1, grid).unbind(-3)
        y = local_attention(q, k, v, self.table(windows.largest), windows, mask=layout.mask)
        return self.out(y.flatten(-2).flatten(1, self.axes))

    def table(self, size: tuple[int, ...]) -> Float[Tensor, "r h"]:
        """The bias for every offset inside a group of `size`."""
        like = self.out.weight
        steps = [torch.arange(1 - w, w, device=like.device, dtype=like.dtype) for w in size]
        offsets = torch.stack(torch.meshgrid(*steps, indexing="ij"), -1).flatten(0, -2)
        return self.bias(offsets)
