"""Pooling as a token mixer: the mean of a token's neighbourhood, and nothing that is learned."""

from typing import Any

import torch.nn.functional as F

from models.layout import Layout, Tokens, check_grid
from models.mixers.base import MIXERS, TokenMixer, Traits

POOLS: dict[int, Any] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


@MIXERS.register
class PoolMixer(TokenMixer):
    """y = mean(x over the `size` x `size` places around each token) - x; places outside do not count.

    Shape: (b, n, d) -> (b, n, d) on a raster of `axes` axes.
    Cost:  O(n size^axes d) time, no parameters.
    Paper: Yu et al., 2021, arXiv:2111.11418, eq. 4. Departs from it: nothing.
    """

    traits = Traits(grid_axes=2, linear_time=True)

    def __init__(self, dim: int, *, axes: int = 2, size: int = 3) -> None:
        super().__init__()
        if size % 2 == 0:
            raise ValueError(f"size of a pool must be odd, got {size}")
        self.axes, self.size = axes, size

    def forward(self, x: Tokens, layout: Layout) -> Tokens:
        grid = layout.need_grid(self.axes, "pool")
        check_grid(grid, x, "pool")
        pool, options = POOLS[self.axes], {"stride": 1, "padding": self.size // 2}
        if layout.mask is None:
            mean = pool(x.mT.unflatten(-1, grid), self.size, **options, count_include_pad=False)
        else:
            real = layout.mask[..., None].to(x.dtype)
            both = (pool(t.mT.unflatten(-1, grid), self.size, **options) for t in (x * real, real))
            mean = next(both) / next(both).clamp(min=self.size**-self.axes)  # where none is real: zero
        return mean.flatten(2).mT - x
