"""Merging in the middle of an inverted bottleneck: wide where the raster is halved, then gated."""

from models.layers.convolution import Convolution, coarser
from models.layers.squeeze import SqueezeExcitation
from models.layout import Layout, Stage, Tokens
from models.merges.base import MERGES, Merge
from models.registry import Part


@MERGES.register
class InvertedMerge(Merge):
    """y = shrink(squeeze(filter(expand(x)))), a norm behind each map, `act` behind the first two.

    Width dim * ratio in the middle, a quarter of it in the squeeze; the filter is 3 x 3 at stride 2.
    Shape: (b, n, d) on (h, w) -> (b, n', out) on (ceil(h/2), ceil(w/2)).
    Paper: Liu et al., 2023, arXiv:2305.07027, sec. 3.2. Departs from it: nothing.
    """

    def __init__(
        self, dim: int, out: int, *, ratio: float = 4.0, act: str = "relu", norm: Part = "batch"
    ) -> None:
        super().__init__()
        wide = int(dim * ratio)
        self.expand = Convolution(dim, wide, kernel=1, bias=False, norm=norm, act=act)
        self.filter = Convolution(wide, wide, stride=2, groups=wide, bias=False, norm=norm, act=act)
        self.squeeze = SqueezeExcitation(wide, wide // 4, act=act)
        self.shrink = Convolution(wide, out, kernel=1, bias=False, norm=norm)

    def forward(self, x: Tokens, layout: Layout) -> Stage:
        after = coarser(layout, (2, 2))
        y = self.filter(self.expand(x, layout), layout)
        return Stage(self.shrink(self.squeeze(y, after), after), after)
