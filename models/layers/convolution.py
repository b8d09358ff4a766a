"""Convolution of tokens that fill a raster, with what usually follows it."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from models.layers.activations import activation
from models.layout import Layout, Tokens, check_grid
from models.norms.base import NORMS
from models.norms.batch import BatchNorm
from models.registry import Part

CONVS: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
DOERS: dict[int, Any] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
Size = int | Sequence[int]  # for all axes, or for each


class Convolution(nn.Module):
    """act(norm(conv(x))) on the raster of the tokens; outside it, and where the mask hides, x counts as zero.

    Shape: (b, n, d) on grid -> (b, n', out) on ceil(grid / stride); `coarser` gives the layout.
    `pad` zeros stand before each axis, by default half of kernel - stride, rounded up, as most code has it;
    after it as many as the last place needs. Built for rasters of `axes` axes.
    """

    def __init__(
        self,
        dim: int,
        out: int,
        *,
        axes: int = 2,
        kernel: Size = 3,
        stride: Size = 1,
        pad: Size | None = None,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
        norm: Part | None = None,
        act: str | None = None,
    ) -> None:
        super().__init__()
        kernel, dilation, self.stride = (
            for_axes(kernel, axes),
            for_axes(dilation, axes),
            for_axes(stride, axes),
        )
        self.reach = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True))
        # an odd rest goes before: a kernel of 7 at stride 4 has 2 zeros there, one of 3 at stride 2 has 1
        usual = tuple((r - s + 1) // 2 for r, s in zip(self.reach, self.stride, strict=True))
        self.before = for_axes(usual if pad is None else pad, axes)
        self.conv = CONVS[axes](
            dim, out, kernel, stride=self.stride, dilation=dilation, groups=groups, bias=bias
        )
        self.norm = None if norm is None else NORMS.build(norm, out)
        self.act = activation(act)

    def forward(self, x: Tokens, layout: Layout) -> Float[Tensor, "b m o"]:
        grid = layout.need_grid(len(self.stride), "convolution")
        check_grid(grid, x, "convolution")
        if layout.mask is not None:
            x = x.masked_fill(~layout.mask[..., None], 0)
        y = self._convolve(x.mT.unflatten(-1, grid)).flatten(2).mT
        if self.norm is not None:
            y = self.norm(y, coarser(layout, self.stride))
        return self.act(y)

    def _convolve(self, raster: Tensor) -> Tensor:
        sides = zip(raster.shape[2:], self.stride, self.reach, self.before, strict=True)
        after = tuple(max((-(-size // s) - 1) * s + r - size - b, 0) for size, s, r, b in sides)
        conv = self.conv
        if after == self.before:  # spares a copy
            weights = (conv.weight, conv.bias, conv.stride, after, conv.dilation, conv.groups)
            return DOERS[len(after)](raster, *weights)
        pads = [side for pair in zip(reversed(self.before), reversed(after), strict=True) for side in pair]
        return conv(F.pad(raster, pads))

    @torch.no_grad()
    def fold_norm(self) -> None:
        """Fold a batch norm into the convolution: the same in eval mode, one step fewer."""
        if not isinstance(self.norm, BatchNorm):
            return
        (scale, shift), conv = self.norm.affine(), self.conv
        conv.weight.mul_(scale.view(-1, *[1] * (conv.weight.ndim - 1)))
        conv.bias = nn.Parameter(shift if conv.bias is None else conv.bias * scale + shift)
        self.norm = None


def fuse(module: nn.Module) -> nn.Module:
    """Fold every batch norm that stands beside a linear map into it, in place: for inference only."""
    for part in list(module.modules()):
        if callable(fold := getattr(part, "fold_norm", None)):
            fold()
    return module


def coarser(layout: Layout, stride: Sequence[int]) -> Layout:
    """The layout after steps of `stride`: a token is real if one of those that it stands for is."""
    if all(s == 1 for s in stride):
        return layout
    grid = layout.need_grid(len(stride), "a coarser raster")
    fewer = tuple(-(-size // s) for size, s in zip(grid, stride, strict=True))
    mask = layout.mask
    if mask is not None:
        raster = mask.unflatten(1, grid)
        for axis, (size, s) in enumerate(zip(fewer, stride, strict=True), start=1):
            raster = raster.movedim(axis, -1)
            raster = F.pad(raster, (0, size * s - raster.shape[-1])).unflatten(-1, (size, s)).any(-1)
            raster = raster.movedim(-1, axis)
        mask = raster.flatten(1)
    return layout.with_(grid=fewer, mask=mask)


def for_axes(size: Size, axes: int) -> tuple[int, ...]:
    """A size for every axis."""
    sizes = (size,) * axes if isinstance(size, int) else tuple(size)
    if len(sizes) != axes:
        raise ValueError(f"a size must be one number or {axes}, got {size}")
    return sizes
