"""Layer norm: each token by its own mean and variance."""

import torch
import torch.nn.functional as F
from torch import nn

from models.layout import Layout, Tokens
from models.norms.base import NORMS, Norm


@NORMS.register
class LayerNorm(Norm):
    """y = (x - mean(x)) / sqrt(var(x) + eps) * weight + bias over the channels of a token, or without both.

    Paper: Ba et al., 2016, arXiv:1607.06450, eq. 4.
    """

    def __init__(self, dim: int, *, eps: float = 1e-5, affine: bool = True) -> None:
        super().__init__()
        self.dim, self.eps = dim, eps
        self.weight = nn.Parameter(torch.ones(dim)) if affine else None
        self.bias = nn.Parameter(torch.zeros(dim)) if affine else None

    def forward(self, x: Tokens, layout: Layout) -> Tokens:
        return F.layer_norm(x, (self.dim,), self.weight, self.bias, self.eps)
