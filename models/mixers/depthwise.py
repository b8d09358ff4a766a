"""Depthwise convolution: every channel of a token becomes a weighted sum of its neighbours'."""

from models.layers.convolution import Convolution, Size
from models.layout import Layout, Tokens
from models.mixers.base import MIXERS, TokenMixer, Traits
from models.registry import Part


@MIXERS.register
class DepthwiseMixer(TokenMixer):
    """y = norm(w * x), a filter w of `kernel` places for each channel; the norm may be missing.

    Shape: (b, n, d) -> (b, n, d) on a raster of `axes` axes; x is zero outside it.
    Cost:  O(n k d) time for k places.
    Paper: Liu et al., 2022, arXiv:2201.03545, sec. 2.5. Departs from it: nothing.
    """

    traits = Traits(grid_axes=2, linear_time=True)

    def __init__(
        self, dim: int, *, axes: int = 2, kernel: Size = 7, bias: bool = True, norm: Part | None = None
    ) -> None:
        super().__init__()
        self.conv = Convolution(dim, dim, axes=axes, kernel=kernel, groups=dim, bias=bias, norm=norm)

    def forward(self, x: Tokens, layout: Layout) -> Tokens:
        return self.conv(x, layout)
