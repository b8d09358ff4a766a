"""Merging at stride 2 by convolutions of several kernels."""

from collections.abc import Sequence

from torch import nn

from models.layers.convolution import coarser
from models.layers.cross_scale import CrossScaleConvolution
from models.layout import Layout, Stage, Tokens
from models.merges.base import MERGES, Merge


@MERGES.register
class CrossScaleMerge(Merge):
    """y = cat(conv_k(norm(x))) over `kernels` k, all at stride 2.

    Shape: (b, n, d) on (h, w) -> (b, n', out) on (ceil(h/2), ceil(w/2)).
    Paper: Wang et al., 2021, arXiv:2108.00154, sec. 3.1. Departs from it: odd rasters are padded.
    """

    def __init__(self, dim: int, out: int, *, kernels: Sequence[int] = (2, 4)) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.scales = CrossScaleConvolution(dim, out, kernels=kernels, stride=2)

    def forward(self, x: Tokens, layout: Layout) -> Stage:
        return Stage(self.scales(self.norm(x), layout), coarser(layout, (2, 2)))
