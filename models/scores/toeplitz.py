"""Relative gain: a learned number for each offset, a factor behind the softmax: rows need not sum to 1."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from models.layout import Layout
from models.scores.base import SCORES, Score, Table, pad_prefix, raster


@SCORES.register
class ToeplitzGain(Score):
    """C[i, j] = table[place_i - place_j] of each head, 1 at first; offsets beyond `grid` share the last.

    Paper: Luo et al., 2022, arXiv:2205.13401, eq. 9 (URPE). On rasters of several axes C is Toeplitz in each.
    """

    def __init__(self, heads: int, axes: int, *, grid: Sequence[int] = (64,)) -> None:
        super().__init__()
        self.axes = axes
        self.table = Table(heads, axes, tuple(grid), start=1.0)

    def gain(self, layout: Layout, n: int) -> Float[Tensor, "h n n"]:
        return pad_prefix(self.table(raster(layout, n, self.axes)), layout.prefix, 1.0)
