"""Fewer, wider tokens: what stands between two stages of a pyramid."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layout import Layout, Stage, Tokens
from models.ops.curves import curve_order


class PatchMerging(nn.Module):
    """Join 2 x 2 neighbours of the last two grid axes: norm, then 4 d -> `out` channels.

    Shape: (b, n, d) on (..., h, w) -> (b, n', out) on (..., ceil(h/2), ceil(w/2)).
    Paper: Liu et al., 2021, arXiv:2103.14030, sec. 3.1. Departs from it: nothing.
    """

    def __init__(self, dim: int, out: int) -> None:
        super().__init__()
        self.norm, self.reduce = nn.LayerNorm(4 * dim), nn.Linear(4 * dim, out, bias=False)

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
        merged = self.reduce(self.norm(torch.cat(corners, -1)))
        grid = (*lead, *merged.shape[-3:-1])
        return Stage(merged.flatten(1, -2), layout.with_(grid=grid, mask=mask))


class CurvePooling(nn.Module):
    """Join runs of 4 points along Morton's curve: linear d -> `out`, mean over the run, norm.

    Shape: (b, n, d) -> (b, ceil(n / 4), out); coords become means; parent says which run a point went to.
    Paper: Wu et al., 2023, arXiv:2312.10035, sec. 4.3 (grid pooling). Departs from it: runs of equal length
        instead of occupied voxels, so shapes do not depend on the data.
    """

    size = 4

    def __init__(self, dim: int, out: int) -> None:
        super().__init__()
        self.reduce, self.norm = nn.Linear(dim, out), nn.LayerNorm(out)

    def forward(self, x: Tokens, layout: Layout) -> Stage:
        if layout.coords is None:
            raise ValueError("curve pooling needs coords in the layout, got none")
        order = curve_order(layout.coords, layout.mask)
        parent = order.argsort(dim=1) // self.size
        real = torch.ones_like(order, dtype=torch.bool) if layout.mask is None else layout.mask
        weight = real[..., None].to(x.dtype)
        runs = -(-x.shape[1] // self.size)

        def total(values: Tensor) -> Tensor:  # (b, n, k) -> (b, runs, k)
            sums = values.new_zeros(values.shape[0], runs, values.shape[-1])
            return sums.scatter_add(1, parent[..., None].expand_as(values), values)

        count = total(weight).clamp(min=1)
        pooled = self.norm(total(self.reduce(x) * weight) / count)
        coords = total(layout.coords * weight.to(layout.coords.dtype)) / count
        mask = None if layout.mask is None else total(weight).squeeze(-1) > 0
        return Stage(pooled, layout.with_(coords=coords, mask=mask), parent)
