"""Conditional positions: what a depthwise convolution sees around a token tells where it lies."""

from models.layers.convolution import Convolution, Size
from models.layout import Layout, Tokens
from models.positions.base import POSITIONS, Position


@POSITIONS.register
class ConditionalPosition(Position):
    """x + act(dwconv(x)) on the raster; zeros beyond its edge say where the edge is.

    Shape: (b, n, d) -> (b, n, d).
    Paper: Chu et al., 2021, arXiv:2102.10882, sec. 3.2. Departs from it: nothing, without `act`.
    """

    def __init__(self, dim: int, axes: int, *, kernel: Size = 3, act: str | None = None) -> None:
        super().__init__()
        self.conv = Convolution(dim, dim, axes=axes, kernel=kernel, groups=dim, act=act)

    def forward(self, x: Tokens, layout: Layout) -> Tokens:
        return x + self.conv(x, layout)
