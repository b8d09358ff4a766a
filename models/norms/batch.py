"""Batch norm: each channel by its mean and variance over all tokens of the batch."""

import torch
from torch import Tensor, nn

from models.layout import Layout, Tokens
from models.norms.base import NORMS, Norm


@NORMS.register
class BatchNorm(Norm):
    """y_c = (x_c - mean_c) / sqrt(var_c + eps) * weight_c + bias_c; running statistics in eval mode.

    In training, tokens that `layout.mask` hides do not count.
    Paper: Ioffe and Szegedy, 2015, arXiv:1502.03167, algorithm 1.
    """

    def __init__(self, dim: int, *, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.stats = nn.BatchNorm1d(dim, eps=eps, momentum=momentum)

    def forward(self, x: Tokens, layout: Layout) -> Tokens:
        if layout.mask is None or not self.training:
            return self._all(x)
        y = x.clone()
        y[layout.mask] = self.stats(x[layout.mask])
        return y

    def affine(self) -> tuple[Tensor, Tensor]:
        """Scale and shift of each channel in eval mode."""
        assert self.stats.running_var is not None
        assert self.stats.running_mean is not None
        scale = self.stats.weight / torch.sqrt(self.stats.running_var + self.stats.eps)
        return scale, self.stats.bias - self.stats.running_mean * scale

    def _all(self, x: Tokens) -> Tensor:
        return self.stats(x.flatten(0, 1)).unflatten(0, x.shape[:2])
