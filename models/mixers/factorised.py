"""Factorised attention: over the places of each frame, then over the frames of each place."""

from torch import nn

from models.layout import Layout, Tokens, check_grid
from models.mixers._heads import HeadAttention
from models.mixers.base import MIXERS, TokenMixer, Traits


@MIXERS.register
class FactorisedAttention(TokenMixer):
    """s = space(x);  y = s + time(norm(x + s)).  Each has a residual, with the block's own.

    Shape: (b, n, d) -> (b, n, d), n = t h w of layout.grid.
    Cost:  O(n (h w + t) d) time.
    Paper: Arnab et al., 2021, arXiv:2103.15691, model 3, eq. 4-6. Departs from it: nothing.
    """

    traits = Traits(grid_axes=3)

    def __init__(self, dim: int, *, head_dim: int = 32) -> None:
        super().__init__()
        self.space = HeadAttention(dim, head_dim=head_dim)
        self.norm = nn.LayerNorm(dim)
        self.time = HeadAttention(dim, head_dim=head_dim)

    def forward(self, x: Tokens, layout: Layout) -> Tokens:
        grid = layout.need_grid(3, "factorised")
        check_grid(grid, x, "factorised")
        frames = grid[0]
        mask = None if layout.mask is None else layout.mask.unflatten(1, (frames, -1))  # (b, t, s)
        keys = None if mask is None else mask.flatten(0, 1)[:, None]
        space = self.space(x.unflatten(1, (frames, -1)).flatten(0, 1), keys).unflatten(0, (-1, frames))
        between = self.norm(x.unflatten(1, (frames, -1)) + space).transpose(1, 2)  # (b, s, t, d)
        keys = None if mask is None else mask.transpose(1, 2).flatten(0, 1)[:, None]
        time = self.time(between.flatten(0, 1), keys).unflatten(0, between.shape[:2])
        return (space + time.transpose(1, 2)).flatten(1, 2)
