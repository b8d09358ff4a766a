"""A strided inverted bottleneck beside a mean of 2 x 2 neighbours."""

import torch.nn.functional as F
from torch import nn

from models.layers.convolution import coarser
from models.layers.inverted import InvertedBottleneck
from models.layout import Layout, Stage, Tokens
from models.merges.base import MERGES, Merge
from models.registry import Part


@MERGES.register
class MBConvMerge(Merge):
    """y = W mean(2 x 2 neighbours) + inverted bottleneck of stride 2; no W where `out` is `dim`.

    Shape: (b, n, d) on (h, w) -> (b, n', out) on (ceil(h/2), ceil(w/2)); zeros stand beyond the edge.
    Paper: Tu et al., 2022, arXiv:2204.01697, appendix A.1. Departs from it: nothing.
    """

    def __init__(
        self, dim: int, out: int, *, ratio: float = 4.0, act: str = "gelu_tanh", norm: Part = "batch"
    ) -> None:
        super().__init__()
        self.branch = InvertedBottleneck(dim, out, stride=2, ratio=ratio, act=act, norm=norm)
        self.shortcut = nn.Identity() if dim == out else nn.Linear(dim, out)

    def forward(self, x: Tokens, layout: Layout) -> Stage:
        h, w = layout.need_grid(2, "an mbconv merge")
        seen = x if layout.mask is None else x.masked_fill(~layout.mask[..., None], 0)
        raster = F.pad(seen.mT.unflatten(-1, (h, w)), (0, w % 2, 0, h % 2))
        mean = F.avg_pool2d(raster, 2).flatten(2).mT
        return Stage(self.shortcut(mean) + self.branch(x, layout), coarser(layout, (2, 2)))
