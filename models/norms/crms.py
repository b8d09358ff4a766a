"""Compressed RMS norm: the RMS norm of a token of zero mean whose last channel is left out."""

import torch
from torch import nn

from models.layout import Layout, Tokens
from models.norms.base import NORMS, Norm


@NORMS.register
class CompressedRMSNorm(Norm):
    """y = x / sqrt((sum x^2 + (sum x)^2) / (d + 1) + eps) * weight, d channels; the one left out is -sum x.

    Paper: Jiang et al., 2023, arXiv:2305.14858, eq. 6.
    """

    def __init__(self, dim: int, *, eps: float = 1e-5, affine: bool = True) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim)) if affine else None

    def forward(self, x: Tokens, layout: Layout) -> Tokens:
        square = x.square().sum(-1, keepdim=True) + x.sum(-1, keepdim=True).square()
        y = x * torch.rsqrt(square / (x.shape[-1] + 1) + self.eps)
        return y if self.weight is None else y * self.weight
