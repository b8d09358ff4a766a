"""Strided convolution: what convolutional pyramids have between two stages."""

from torch import nn

from models.layers.convolution import Convolution, Size, coarser
from models.layout import Layout, Stage, Tokens
from models.merges.base import MERGES, Merge
from models.norms.base import NORMS
from models.registry import Part


@MERGES.register
class ConvMerge(Merge):
    """y = after(conv(before(x))), `stride` on each axis of the raster; the two norms may be missing.

    Shape: (b, n, d) on grid -> (b, n', out) on ceil(grid / stride).
    Paper: 2 x 2 after a norm, Liu et al., 2022, arXiv:2201.03545, sec. 2.6; 3 x 3 without, Yu et al., 2021,
        arXiv:2111.11418, sec. 3.2. Departs from it: a raster that the stride does not divide is padded.
    """

    def __init__(
        self,
        dim: int,
        out: int,
        *,
        axes: int = 2,
        kernel: Size = 3,
        stride: Size = 2,
        pad: Size | None = None,
        bias: bool = True,
        before: Part | None = None,
        after: Part | None = None,
    ) -> None:
        super().__init__()
        self.before: nn.Module | None = None if before is None else NORMS.build(before, dim)
        self.conv = Convolution(
            dim, out, axes=axes, kernel=kernel, stride=stride, pad=pad, bias=bias, norm=after
        )

    def forward(self, x: Tokens, layout: Layout) -> Stage:
        if self.before is not None:
            x = self.before(x, layout)
        return Stage(self.conv(x, layout), coarser(layout, self.conv.stride))
