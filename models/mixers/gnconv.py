"""Recursive gated convolution: products of neighbourhoods, one order higher at every step."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers.convolution import Convolution
from models.layout import Layout, Tokens, check_grid
from models.mixers.base import MIXERS, TokenMixer, Traits


@MIXERS.register
class RecursiveGatedConv(TokenMixer):
    """p_1 = p_0 * f(q_0) s;  p_(k+1) = (W_k p_k) * f(q_k) s;  y = W p_n,  [p_0, q_0, ..., q_(n-1)] = W_in x.

    n is the `order`, s the `scale`; p_k and q_k have d / 2^(n-1-k) channels (p_0 those of q_0). f is a
    depthwise convolution of `kernel`, or, with `spectrum`, half of it a filter of 3 and half a product with a
    learned spectrum of that size, interpolated on other rasters, between two norms.
    Shape: (b, n, d) -> (b, n, d), n = prod(layout.grid).
    Cost:  O(n (d + k^2) d) time, for the spectrum O(n log n d).
    Paper: Rao et al., 2022, arXiv:2207.14284, eq. 3-5; spectrum: its appendix A. Departs from it: nothing.
    """

    traits = Traits(grid_axes=2, masks="hides", linear_time=True)

    def __init__(
        self,
        dim: int,
        *,
        order: int = 5,
        kernel: int = 7,
        scale: float = 1 / 3,
        spectrum: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if order < 1 or dim % 2 ** (order - 1):
            raise ValueError(f"2^(order - 1) must divide dim, got dim={dim}, order={order}")
        self.widths = [dim // 2 ** (order - 1 - i) for i in range(order)]
        self.scale = scale
        self.inner = nn.Linear(dim, 2 * dim)
        wide = sum(self.widths)
        self.filter = (
            Convolution(wide, wide, kernel=kernel, groups=wide)
            if spectrum is None
            else LocalGlobalFilter(wide, spectrum)
        )
        self.gates = nn.ModuleList(
            nn.Linear(a, b) for a, b in zip(self.widths, self.widths[1:], strict=False)
        )
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tokens, layout: Layout) -> Tokens:
        check_grid(layout.need_grid(2, "gnconv"), x, "gnconv")
        p, q = self.inner(x).split([self.widths[0], sum(self.widths)], -1)
        first, *rest = (self.filter(q, layout) * self.scale).split(self.widths, -1)
        p = p * first
        for gate, seen in zip(self.gates, rest, strict=True):
            p = gate(p) * seen
        return self.out(p)


class LocalGlobalFilter(nn.Module):
    """norm([dwconv(a), ifft(K fft(b))]), channels of the halves [a, b] = norm(x) in turn."""

    def __init__(self, dim: int, spectrum: Sequence[int]) -> None:
        super().__init__()
        self.before, self.after = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(dim, eps=1e-6)
        self.local = Convolution(dim // 2, dim // 2, groups=dim // 2, bias=False)
        self.spectrum = nn.Parameter(torch.empty(2, dim // 2, *spectrum))  # real and imaginary part
        nn.init.trunc_normal_(self.spectrum, std=0.02)

    def forward(self, x: Tokens, layout: Layout) -> Tokens:
        grid = layout.need_grid(2, "gnconv")
        x = self.before(x)
        if layout.mask is not None:
            x = x * layout.mask[..., None]
        a, b = x.chunk(2, -1)
        a = self.local(a, layout)
        maps = b.mT.unflatten(-1, grid)
        wide = maps.to(torch.promote_types(maps.dtype, torch.float32))  # transforms take no half numbers
        waves = torch.fft.rfft2(wide, norm="ortho")
        filtered = waves * torch.complex(*self._kernel(waves).to(wide.dtype).unbind(0))
        maps = torch.fft.irfft2(filtered, s=grid, norm="ortho").to(maps.dtype)
        return self.after(torch.stack([a, maps.flatten(2).mT], -1).flatten(-2))

    def _kernel(self, waves: Tensor) -> Tensor:
        size = waves.shape[2:]
        if self.spectrum.shape[2:] == size:
            return self.spectrum
        return F.interpolate(self.spectrum, size=size, mode="bilinear", align_corners=True)
