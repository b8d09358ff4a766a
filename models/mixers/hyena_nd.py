"""Hyena on rasters: gates around one global convolution whose kernel is a small network of the offset."""

import itertools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layout import Layout, Tokens, check_grid
from models.mixers.base import MIXERS, TokenMixer, Traits
from models.ops.fourier import convolve

SHORT = 3  # taps an axis of the depthwise convolution
TARGET, FAST, SLOW = 1e-2, 0.3, 1.5  # windows fall to TARGET after FAST .. SLOW times the extent
CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


@MIXERS.register
class HyenaND(TokenMixer):
    """y = W (x2 * (h conv (x1 * v) + s x1 v)), [x2, x1, v] = short conv(W x), h(i) = f(i) prod e^(-r |i|).

    f is a network of sines of the coordinates i / extent; r differs between channels. `causal`: h holds the
    offsets >= 0 of every axis. Otherwise it runs from all 2^k corners and a learned sum mixes the answers;
    the gates are the same for all, so the 2^k kernels are one kernel and cost one transform.
    Shape: (b, n, d) -> (b, n, d), n = prod(layout.grid) of any size: no parameter knows the raster.
    Cost:  O(n log n d) time, O(n d) state.
    Paper: Zimerman and Wolf, 2023, arXiv:2309.13600, sec. 4 (one kernel of k axes, four directions).
        Departs from it: coordinates are not learned; their frequencies are 1, 2, ... per extent; the short
        convolution is causal if h is; the mix has no bias, the output's bias holds it.
    """

    traits = Traits(grid_axes=2)

    def __init__(
        self,
        dim: int,
        *,
        axes: int = 2,
        causal: bool = False,
        extent: int = 32,
        width: int = 16,
        depth: int = 2,
        frequencies: int = 2,
        learn_window: bool = True,
    ) -> None:
        super().__init__()
        if axes not in CONVOLUTIONS:
            raise ValueError(f"axes must be 1, 2 or 3, got {axes}")
        self.axes, self.causal, self.extent, self.frequencies = axes, causal, extent, frequencies
        self.inputs = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.short = nn.Parameter(torch.empty(3 * dim, 1, *(SHORT,) * axes))
        self.short_bias = nn.Parameter(torch.zeros(3 * dim))
        bound = SHORT ** (-axes / 2)  # of a layer with as many inputs
        nn.init.uniform_(self.short, -bound, bound)
        widths = [axes * (1 + 2 * frequencies), *(width,) * (depth + 1)]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))
        self.sines = nn.Parameter(torch.ones(width))  # one frequency a hidden channel, all layers share it
        self.last = nn.Linear(width, dim, bias=False)
        self.skip = nn.Parameter(torch.randn(dim))
        rates = -math.log(TARGET) / torch.linspace(SLOW, FAST, dim)
        self.rates = nn.Parameter(rates.expand(axes, -1).clone(), requires_grad=learn_window)
        self.mix = None if causal else nn.Parameter(torch.full((2**axes,), 2.0**-axes))

    def forward(self, x: Tokens, layout: Layout) -> Tokens:
        grid = layout.need_grid(self.axes, "hyena_nd")
        check_grid(grid, x, "hyena_nd")
        x = self.inputs(x)
        if layout.mask is not None:  # zeros are what lies beyond the edge, too
            x = x * layout.mask[..., None]
        behind, ahead = (SHORT - 1, 0) if self.causal else (SHORT // 2, SHORT // 2)
        padded = F.pad(x.mT.unflatten(-1, grid), (behind, ahead) * self.axes)
        short = CONVOLUTIONS[self.axes](padded, self.short, self.short_bias, groups=self.short.shape[0])
        gate, inner, value = short.movedim(1, -1).chunk(3, dim=-1)
        u = inner * value
        if layout.mask is not None:
            u = u * layout.mask.unflatten(1, grid)[..., None]
        skip = self.skip if self.mix is None else self.skip * self.mix.sum()
        y = gate * (convolve(u, self.kernel(grid), axes=self.axes) + skip * u)
        return self.out(y.flatten(1, self.axes))

    def kernel(self, grid: Sequence[int]) -> Tensor:
        """Taps at the offsets 1 - n .. n - 1 of every axis: (*offsets, d)."""
        corner = self._corner(grid)
        whole = F.pad(corner, [0, 0] + [side for n in reversed(grid) for side in (n - 1, 0)])
        if self.mix is None:
            return whole
        every = range(self.axes)
        flips = [axes for r in range(self.axes + 1) for axes in itertools.combinations(every, r)]
        return sum((m * whole.flip(axes) for m, axes in zip(self.mix, flips, strict=True)), torch.zeros(()))

    def _corner(self, grid: Sequence[int]) -> Tensor:
        """Taps at the offsets 0 .. n - 1: (*grid, d)."""
        like = self.last.weight
        places = [torch.arange(n, device=like.device, dtype=like.dtype) / self.extent for n in grid]
        waves = torch.arange(1, self.frequencies + 1, device=like.device) * (2 * math.pi)
        features = []
        for axis, t in enumerate(places):
            angle = t[:, None] * waves
            one = torch.cat([t[:, None], angle.cos(), -angle.sin()], -1)
            shape = [1] * self.axes + [-1]
            shape[axis] = len(t)
            features.append(one.view(shape).expand(*grid, -1))
        h = torch.cat(features, -1)
        for layer in self.layers:
            h = torch.sin(self.sines * layer(h))
        h = self.last(h)
        for axis, t in enumerate(places):
            shape = [1] * self.axes + [-1]
            shape[axis] = len(t)
            h = h * torch.exp(-t[:, None] * self.rates[axis].abs()).view(shape)
        return h
