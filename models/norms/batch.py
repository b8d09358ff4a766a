"""Batch norm: each channel by its mean and variance over all tokens of the batch."""

import torch
from torch import Tensor, nn

from models.layout import Layout, Mask, Tokens
from models.norms.base import NORMS, Norm


@NORMS.register
class BatchNorm(Norm):
    """y_c = (x_c - mean_c) / sqrt(var_c + eps) * weight_c + bias_c; running statistics in eval mode.

    In training, tokens that `layout.mask` hides do not count.
    Paper: Ioffe and Szegedy, 2015, arXiv:1502.03167, algorithm 1.
    """

    def __init__(self, dim: int, *, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.momentum = momentum
        self.stats = nn.BatchNorm1d(dim, eps=eps, momentum=momentum)

    def forward(self, x: Tokens, layout: Layout) -> Tokens:
        if layout.mask is None or not self.training:
            return self._all(x)
        return self._real(x, layout.mask)

    def affine(self) -> tuple[Tensor, Tensor]:
        """Scale and shift of each channel in eval mode."""
        assert self.stats.running_var is not None
        assert self.stats.running_mean is not None
        scale = self.stats.weight / torch.sqrt(self.stats.running_var + self.stats.eps)
        return scale, self.stats.bias - self.stats.running_mean * scale

    def _real(self, x: Tokens, mask: Mask) -> Tokens:
        """By the tokens that the mask keeps. Sums, not a choice of rows: a graph knows their shapes."""
        stats, given, hidden = self.stats, x.dtype, ~mask[..., None]
        x = x.masked_fill(hidden, 0).to(torch.promote_types(given, torch.float32))
        count = mask.sum().clamp(min=1)
        mean = x.sum((0, 1)) / count
        off = (x - mean).masked_fill(hidden, 0)
        var = off.square().sum((0, 1)) / count
        with torch.no_grad():
            assert stats.running_mean is not None
            assert stats.running_var is not None
            assert stats.num_batches_tracked is not None
            unbiased = var * count / (count - 1).clamp(min=1)
            stats.running_mean.lerp_(mean.to(stats.running_mean.dtype), self.momentum)
            stats.running_var.lerp_(unbiased.to(stats.running_var.dtype), self.momentum)
            stats.num_batches_tracked.add_(1)
        return (off * torch.rsqrt(var + stats.eps) * stats.weight + stats.bias).to(given)

    def _all(self, x: Tokens) -> Tensor:
        return self.stats(x.flatten(0, 1)).unflatten(0, x.shape[:2])
