"""Stages of a pyramid brought together on the tokens of the stem."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layout import Stage, Tokens

RESIZE = {1: "linear", 2: "bilinear", 3: "trilinear"}


class Fuse(nn.Module):
    """sum over stages of resize(W_s norm(x_s)), then GELU: (b, n of the stem, width).

    Hidden tokens count for nothing in what is interpolated.
    Paper: Xie et al., 2021, arXiv:2105.15203, eq. 4 (an all-linear decoder).
    Departs from it: sums instead of concatenating.
    """

    def __init__(self, dims: Sequence[int], width: int) -> None:
        super().__init__()
        self.parts = nn.ModuleList(nn.Sequential(nn.LayerNorm(d), nn.Linear(d, width)) for d in dims)
        self.act = nn.GELU()

    def forward(self, stages: list[Stage]) -> Tokens:
        stem = stages[0]
        parts = [
            resize(stage._replace(tokens=part(stage.tokens)), stem)
            for part, stage in zip(self.parts, stages, strict=True)
        ]
        return self.act(sum(parts[1:], start=parts[0]))


def resize(stage: Stage, to: Stage) -> Tensor:
    """Tokens of a stage at the places of another: interpolated on rasters, else those of the parents."""
    if stage.parent is not None:
        return stage.tokens.gather(1, stage.parent[..., None].expand(-1, -1, stage.tokens.shape[-1]))
    if stage.layout.grid == to.layout.grid:
        return stage.tokens
    grid, mask = to.layout.grid or (), stage.layout.mask
    if mask is None:
        return interpolate(stage, grid)
    weight = mask[..., None].to(stage.tokens.dtype)
    total = interpolate(stage._replace(tokens=stage.tokens.masked_fill(~mask[..., None], 0)), grid)
    share = interpolate(stage._replace(tokens=weight), grid)
    return total / share.clamp(min=torch.finfo(share.dtype).eps)  # 0 where nothing around is real


def interpolate(stage: Stage, grid: tuple[int, ...]) -> Tensor:
    """Tokens of a raster on another one: (b, n, d) -> (b, prod(grid), d)."""
    raster = F.interpolate(stage.map(), size=grid, mode=RESIZE[len(grid)], align_corners=False)
    return raster.flatten(2).mT
