"""Group norm: each sample by the mean and variance of a group of channels over all its tokens."""

import torch
from torch import nn

from models.layout import Layout, Tokens
from models.norms.base import NORMS, Norm


@NORMS.register
class GroupNorm(Norm):
    """y = (x - mean) / sqrt(var + eps) * weight + bias; one mean and variance a sample and group.

    Paper: Wu and He, 2018, arXiv:1803.08494, eq. 7; one group is PoolFormer's norm (arXiv:2111.11418).
    """

    def __init__(self, dim: int, *, groups: int = 1, eps: float = 1e-5) -> None:
        super().__init__()
        if groups < 1 or dim % groups:
            raise ValueError(f"groups must divide dim, got dim={dim}, groups={groups}")
        self.groups, self.eps = groups, eps
        self.weight, self.bias = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tokens, layout: Layout) -> Tokens:
        groups = x.unflatten(-1, (self.groups, -1))  # (b, n, g, d / g)
        if layout.mask is None:
            var, mean = torch.var_mean(groups, dim=(1, 3), correction=0, keepdim=True)
        else:
            weight = layout.mask[..., None, None].to(x.dtype)
            count = weight.sum(1, keepdim=True).clamp(min=1) * groups.shape[-1]
            mean = (groups * weight).sum((1, 3), keepdim=True) / count
            var = ((groups - mean).square() * weight).sum((1, 3), keepdim=True) / count
        return ((groups - mean) * torch.rsqrt(var + self.eps)).flatten(-2) * self.weight + self.bias
