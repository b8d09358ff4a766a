"""Patch merging: 2 x 2 neighbours side by side, then one linear map."""

import torch
import torch.nn.functional as F
from torch import nn

from models.layout import Layout, Stage, Tokens
from models.merges.base import MERGES, Merge


@MERGES.register
class PatchMerging(Merge):
    """Join 2 x 2 neighbours of the last two grid axes: norm, then 4 d -> `out` channels, or the norm last.

    Shape: (b, n, d) on (..., h, w) -> (b, n', out) on (..., ceil(h/2), ceil(w/2)).
    Paper: Liu et al., 2021, arXiv:2103.14030, sec. 3.1; `norm_last`, arXiv:2111.09883. Departs from it:
        nothing.
    """

    def __init__(self, dim: int, out: int, *, norm_last: bool = False) -> None:
        super().__init__()
        self.norm_last = norm_last
        self.norm = nn.LayerNorm(out if norm_last else 4 * dim)
        self.reduce = nn.Linear(4 * dim, out, bias=False)

    def forward(self, x: Tokens, layout: Layout) -> Stage:
        if layout.grid is None or len(layout.grid) < 2:
            raise ValueError(f"patch merging needs a grid of 2 or 3 axes in the layout, got {layout.grid}")
        *lead, h, w = layout.grid
        mask = layout.mask
        if mask is not None:
            x = x * mask[..., None]
            mask = F.pad(mask.view(-1, 1, h, w).float(), (0, w % 2, 0, h % 2))
            mask = F.max_pool2d(mask, 2).bool().view(x.shape[0], -1)
        raster = F.pad(x.unflatten(1, layout.grid), (0, 0, 0, w % 2, 0, h % 2))
        corners = [raster[..., i::2, j::2, :] for j in (0, 1) for i in (0, 1)]  # down first, then right
        joined = torch.cat(corners, -1)
        merged = self.norm(self.reduce(joined)) if self.norm_last else self.reduce(self.norm(joined))
        grid = (*lead, *merged.shape[-3:-1])
        return Stage(merged.flatten(1, -2), layout.with_(grid=grid, mask=mask))
