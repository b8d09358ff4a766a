"""Images to tokens: one convolution or several, whose patches overlap."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from models.layers.convolution import Convolution, coarser
from models.layout import Layout, Tokens
from models.stems._cells import cut_patches, join_patches, only_real
from models.stems.base import STEMS, Side, Stem


@STEMS.register
class ConvStem(Stem):
    """(b, c, h, w) -> (b, n, d) on a grid (ceil(h / p), ceil(w / p)), p the product of the strides.

    `layers` are options of Convolution, with "width", a share of d, for all but the last:
    ({"width": 0.5, "stride": 2, "norm": "batch", "act": "gelu"}, {"stride": 2}). "skip": k adds to its output
    what went into the layer k - 1 before it.
    `side.mask` hides tokens, (b, n): their own pixels become zero.
    Paper: Xiao et al., 2021, arXiv:2106.14881, sec. 3, without its last 1 x 1 convolution.
    """

    axes, shape = 2, "b c h w"

    def __init__(
        self,
        in_chans: int,
        dim: int,
        *,
        layers: Sequence[Mapping[str, Any]] = ({"kernel": 7, "stride": 4},),
    ) -> None:
        super().__init__()
        options = [dict(layer) for layer in layers]
        self.skips = [layer.pop("skip", 0) for layer in options]
        widths = [round(dim * layer.pop("width", 1)) for layer in options]
        if widths[-1] != dim:
            raise ValueError(f"the last layer of a stem must have width 1, got {widths[-1] / dim}")
        self.layers = nn.ModuleList(
            Convolution(a, b, **layer)
            for a, b, layer in zip([in_chans, *widths], widths, options, strict=False)
        )
        self.strides = [layer.get("stride", 1) for layer in options]
        self.in_chans, self.patch = in_chans, math.prod(self.strides)
        self.cells, self.values = self.patch**2, in_chans * self.patch**2

    def forward(self, x: Tensor, side: Side) -> tuple[Tokens, Layout]:
        side.only("conv", "mask")
        self.check(x)
        x = only_real(x, side.mask, self.patch)
        # channels beside each other: then tokens and rasters are views of each other all the way down
        tokens = x.contiguous(memory_format=torch.channels_last).flatten(2).mT
        layout = Layout(grid=tuple(x.shape[2:]))
        before: list[Tokens] = []
        for layer, stride, skip in zip(self.layers, self.strides, self.skips, strict=True):
            before.append(tokens)
            tokens, layout = layer(tokens, layout), coarser(layout, (stride, stride))
            if skip:
                tokens = tokens + before[-skip]
        return tokens, layout.with_(mask=side.mask)

    def check(self, x: Tensor) -> None:
        super().check(x)
        if x.shape[1] != self.in_chans:
            raise ValueError(f"x must have {self.in_chans} channels, got shape {tuple(x.shape)}")

    def cut(self, x: Tensor) -> Float[Tensor, "b n v"]:
        self.check(x)
        return cut_patches(x, self.patch)

    def join(self, values: Float[Tensor, "b n v"], size: Sequence[int]) -> Tensor:
        return join_patches(values, self.patch, size)
