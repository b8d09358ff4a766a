"""Convolutions of several kernels at one stride, side by side: tokens that see several scales."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from models.layers.convolution import Convolution
from models.layout import Layout, Tokens


class CrossScaleConvolution(nn.Module):
    """cat(conv_1(x), conv_2(x), ...): half of `out` for the smallest kernel, half of the rest for the next.

    The last kernel gets as many channels as the one before it.
    Paper: Wang et al., 2021, arXiv:2108.00154, sec. 3.1.
    """

    def __init__(self, dim: int, out: int, *, kernels: Sequence[int], stride: int) -> None:
        super().__init__()
        shares = [out // 2 ** (i + 1) for i in range(len(kernels) - 1)]
        self.convs = nn.ModuleList(
            Convolution(dim, share, kernel=kernel, stride=stride)
            for kernel, share in zip(kernels, [*shares, out - sum(shares)], strict=True)
        )

    def forward(self, x: Tokens, layout: Layout) -> Float[Tensor, "b m o"]:
        return torch.cat([conv(x, layout) for conv in self.convs], -1)
