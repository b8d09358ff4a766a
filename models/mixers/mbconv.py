"""An inverted bottleneck as a token mixer: convolution between two maps of channels, and gates."""

from models.layers.inverted import InvertedBottleneck
from models.layout import Layout, Tokens
from models.mixers.base import MIXERS, TokenMixer, Traits
from models.registry import Part


@MIXERS.register
class MBConvMixer(TokenMixer):
    """y = shrink(squeeze(filter(expand(norm(x))))); the norm is its own, so its block needs none.

    Shape: (b, n, d) -> (b, n, d) on a raster of 2 axes.
    Cost:  O(n d^2) time.
    Paper: Tu et al., 2022, arXiv:2204.01697, sec. 3.3. Departs from it: nothing.
    """

    traits = Traits(grid_axes=2, linear_time=True)

    def __init__(self, dim: int, *, ratio: float = 4.0, act: str = "gelu_tanh", norm: Part = "batch") -> None:
        super().__init__()
        self.branch = InvertedBottleneck(dim, dim, ratio=ratio, act=act, norm=norm)

    def forward(self, x: Tokens, layout: Layout) -> Tokens:
        return self.branch(x, layout)
