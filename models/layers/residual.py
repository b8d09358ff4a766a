"""What happens to a branch before it is added back: layer scale and stochastic depth."""

import torch
from torch import nn

from models.layout import Tokens


class LayerScale(nn.Module):
    """A learned factor per channel (Touvron et al., 2021, arXiv:2103.17239, eq. 4)."""

    def __init__(self, dim: int, start: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), start))

    def forward(self, x: Tokens) -> Tokens:
        return x * self.gamma


class DropPath(nn.Module):
    """In training, drop a sample's branch with probability `rate` (Huang et al., 2016, arXiv:1603.09382)."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise ValueError(f"drop_path must be in [0, 1), got {rate}")
        self.rate = rate

    def forward(self, x: Tokens) -> Tokens:
        if not self.training or not self.rate:
            return x
        keep = 1 - self.rate
        return x * x.new_empty(x.shape[0], 1, 1).bernoulli_(keep).div_(keep)
