"""Learned positions: a table with one row for each cell of a raster."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layout import Layout, Tokens
from models.positions.base import POSITIONS, Position

RESIZE = {1: "linear", 2: "bicubic", 3: "trilinear"}


@POSITIONS.register
class LearnedPosition(Position):
    """x + table; on another raster than `grid` the table is interpolated.

    Shape: (b, n, d) -> (b, n, d), n = prod(layout.grid).
    Paper: Dosovitskiy et al., 2020, arXiv:2010.11929, eq. 1 and sec. 3.2. Departs from it: the class token
        has no row, its own vector holds what that row would add.
    """

    def __init__(self, dim: int, axes: int, *, grid: Sequence[int] = (14, 14)) -> None:
        super().__init__()
        if len(grid) != axes or min(grid) < 1:
            raise ValueError(f"grid must be {axes} positive sizes, got {tuple(grid)}")
        self.grid = tuple(grid)
        self.table = nn.Parameter(torch.empty(1, math.prod(grid), dim))
        nn.init.trunc_normal_(self.table, std=0.02)

    def forward(self, x: Tokens, layout: Layout) -> Tokens:
        return x + self.rows(layout.need_grid(len(self.grid), "learned"))

    def rows(self, grid: tuple[int, ...]) -> Tensor:
        """The table on a raster: (1, n, d)."""
        if grid == self.grid:
            return self.table
        raster = self.table.mT.unflatten(-1, self.grid)
        mode = RESIZE[len(grid)]
        smooth = {"antialias": True} if len(grid) == 2 else {}
        return F.interpolate(raster, size=grid, mode=mode, align_corners=False, **smooth).flatten(2).mT
