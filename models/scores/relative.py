"""Relative bias: a learned number for each offset of query and key, added to their score."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from models.layout import Layout
from models.scores.base import SCORES, Score, Table, pad_prefix, raster


@SCORES.register
class RelativeBias(Score):
    """B[i, j] = table[place_i - place_j] of each head; offsets beyond `grid` share the last number.

    Paper: Raffel et al., 2019, arXiv:1910.10683, sec. 2.1, without buckets.
    """

    def __init__(self, heads: int, axes: int, *, grid: Sequence[int] = (64,)) -> None:
        super().__init__()
        self.axes = axes
        self.table = Table(heads, axes, tuple(grid), start=0.0)

    def bias(self, layout: Layout, n: int) -> Float[Tensor, "h n n"]:
        return pad_prefix(self.table(raster(layout, n, self.axes)), layout.prefix, 0.0)
