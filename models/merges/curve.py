"""Curve pooling: runs of neighbouring points along a space-filling curve become one."""

import torch
from torch import Tensor, nn

from models.layout import Layout, Stage, Tokens
from models.merges.base import MERGES, Merge
from models.ops.curves import curve_order


@MERGES.register
class CurvePooling(Merge):
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
