"""Pooling as a token mixer: the mean of a token's neighbourhood, and nothing that is learned."""

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor

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
        real = None if layout.mask is None else layout.mask[..., None].to(x.dtype)
        if real is None and self.axes < 3:
            raster, pad = x.mT.unflatten(-1, grid), self.size // 2
            mean = POOLS[self.axes](raster, self.size, stride=1, padding=pad, count_include_pad=False)
            return mean.flatten(2).mT - x
        real = x.new_ones(1, x.shape[1], 1) if real is None else real
        total, count = self._mean(x * real, grid), self._mean(real, grid)
        return total / count.clamp(min=self.size**-self.axes) - x  # where none is real: zero

    def _mean(self, x: Tensor, grid: Sequence[int]) -> Tensor:
        """Over all places, zeros outside; torch itself pads in three axes only rasters of `size` or more."""
        raster = F.pad(x.mT.unflatten(-1, grid), (self.size // 2,) * 2 * self.axes)
        return POOLS[self.axes](raster, self.size, stride=1).flatten(2).mT
