"""Spectral gating: a learned complex weight for every frequency of the raster, a global circular filter."""

from collections.abc import Sequence

import torch
from torch import nn

from models.layout import Layout, Tokens, check_grid
from models.mixers.base import MIXERS, TokenMixer, Traits
from models.ops.fourier import filter_circular, resize_kernel


@MIXERS.register
class SpectralGating(TokenMixer):
    """y = irfft2(W * rfft2(x)), W (h, w/2 + 1, d) complex: each channel by itself, no projections.

    Shape: (b, n, d) -> (b, n, d), n = h w of layout.grid. On another raster than `grid` the same kernel of
        taps is used, cut or surrounded by zeros. Hidden tokens count as zeros.
    Cost:  O(n log n d) time; h (w/2 + 1) d complex weights.
    Paper: Patro et al., 2023, arXiv:2304.06446, sec. 3; the filter of Rao et al., 2021, arXiv:2107.00645,
        eq. 8. Departs from it: other rasters than that of training.
    """

    traits = Traits(grid_axes=2, masks="hides")

    def __init__(self, dim: int, *, grid: Sequence[int] = (14, 14)) -> None:
        super().__init__()
        if len(grid) != 2 or min(grid) < 1:
            raise ValueError(f"grid must be 2 positive sizes, got {tuple(grid)}")
        self.grid = tuple(grid)
        self.weight = nn.Parameter(torch.empty(grid[0], grid[1] // 2 + 1, dim, 2))  # real, imaginary
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, x: Tokens, layout: Layout) -> Tokens:
        grid = layout.need_grid(2, "spectral_gating")
        check_grid(grid, x, "spectral_gating")
        if layout.mask is not None:
            x = x * layout.mask[..., None]
        weight = self.weight if self.weight.dtype == torch.float64 else self.weight.float()
        spectrum = torch.view_as_complex(weight)
        if grid != self.grid:
            spectrum = resize_kernel(spectrum, self.grid, grid)
        return filter_circular(x.unflatten(1, grid), spectrum).flatten(1, 2)
