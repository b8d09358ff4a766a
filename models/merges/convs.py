"""Merging by several convolutions in a row."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from models.layers.convolution import Convolution, coarser
from models.layout import Layout, Stage, Tokens
from models.merges.base import MERGES, Merge


@MERGES.register
class ConvsMerge(Merge):
    """y = conv_l(... conv_1(x)), as many steps of the raster as the product of the strides.

    `layers` are options of Convolution, with "width", a share of `out`, for all but the last, and
    "depthwise"; the default is an inverted bottleneck with a norm at its end.
    Shape: (b, n, d) on (h, w) -> (b, n', out) on ceil(grid / stride).
    Paper: Han et al., 2024, arXiv:2405.16605, its code.
    """

    def __init__(
        self,
        dim: int,
        out: int,
        *,
        layers: Sequence[Mapping[str, Any]] = (
            {"width": 4, "kernel": 1, "act": "relu"},
            {"width": 4, "kernel": 3, "stride": 2, "depthwise": True, "act": "relu"},
            {"kernel": 1, "norm": "batch"},
        ),
    ) -> None:
        super().__init__()
        options = [dict(layer) for layer in layers]
        widths = [dim, *(round(out * layer.pop("width", 1)) for layer in options)]
        if widths[-1] != out:
            raise ValueError(f"the last layer of a merge must have width 1, got {widths[-1] / out}")
        self.strides = [layer.get("stride", 1) for layer in options]
        self.layers = nn.ModuleList(
            Convolution(a, b, groups=a if layer.pop("depthwise", False) else 1, **layer)
            for a, b, layer in zip(widths, widths[1:], options, strict=False)
        )

    def forward(self, x: Tokens, layout: Layout) -> Stage:
        for layer, stride in zip(self.layers, self.strides, strict=True):
            x, layout = layer(x, layout), coarser(layout, (stride, stride))
        return Stage(x, layout)
