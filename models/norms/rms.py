"""RMS norm: each token by the root of its mean square."""

import torch
import torch.nn.functional as F
from torch import nn

from models.layout import Layout, Tokens
from models.norms.base import NORMS, Norm


@NORMS.register
class RMSNorm(Norm):
    """y = x / sqrt(mean(x^2) + eps) * weight over the channels of a token, or without weight.

    Paper: Zhang and Sennrich, 2019, arXiv:1910.07467, eq. 4.
    """

    def __init__(self, dim: int, *, eps: float = 1e-5, affine: bool = True) -> None:
        super().__init__()
        self.dim, self.eps = dim, eps
        self.weight = nn.Parameter(torch.ones(dim)) if affine else None

    def forward(self, x: Tokens, layout: Layout) -> Tokens:
        return F.rms_norm(x, (self.dim,), self.weight, self.eps)
