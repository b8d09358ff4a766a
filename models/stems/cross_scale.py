"""Images to tokens that see patches of several sizes around the same centre."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from models.layers.convolution import coarser
from models.layers.cross_scale import CrossScaleConvolution
from models.layout import Layout, Tokens
from models.stems._cells import cut_patches, join_patches, only_real
from models.stems.base import STEMS, Side, Stem


@STEMS.register
class CrossScaleStem(Stem):
    """(b, c, h, w) -> norm(cat(convolutions of `kernels` at the stride of the smallest)): (b, n, d).

    Grid (ceil(h / p), ceil(w / p)), p the smallest kernel. `side.mask` hides tokens, (b, n).
    Paper: Wang et al., 2021, arXiv:2108.00154, sec. 3.1. Departs from it: nothing.
    """

    axes, shape = 2, "b c h w"

    def __init__(self, in_chans: int, dim: int, *, kernels: Sequence[int] = (4, 8, 16, 32)) -> None:
        super().__init__()
        self.in_chans, self.patch = in_chans, kernels[0]
        self.cells, self.values = self.patch**2, in_chans * self.patch**2
        self.scales = CrossScaleConvolution(in_chans, dim, kernels=kernels, stride=self.patch)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor, side: Side) -> tuple[Tokens, Layout]:
        side.only("cross_scale", "mask")
        self.check(x)
        x = only_real(x, side.mask, self.patch).contiguous(memory_format=torch.channels_last)
        layout = Layout(grid=tuple(x.shape[2:]))
        tokens = self.norm(self.scales(x.flatten(2).mT, layout))
        return tokens, coarser(layout, (self.patch,) * 2).with_(mask=side.mask)

    def check(self, x: Tensor) -> None:
        super().check(x)
        if x.shape[1] != self.in_chans:
            raise ValueError(f"x must have {self.in_chans} channels, got shape {tuple(x.shape)}")

    def cut(self, x: Tensor) -> Float[Tensor, "b n v"]:
        self.check(x)
        return cut_patches(x, self.patch)

    def join(self, values: Float[Tensor, "b n v"], size: Sequence[int]) -> Tensor:
        return join_patches(values, self.patch, size)
