"""Kernelised attention with relative positions: positive features, a Toeplitz factor by transform."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from models.layout import Layout, Tokens, check_grid
from models.mixers._heads import count_heads
from models.mixers.base import MIXERS, TokenMixer, Traits
from models.ops.fourier import convolve
from models.scores.base import Table, raster


@MIXERS.register
class KernelRelativeAttention(TokenMixer):
    """y_i = phi(q_i) sum_j e^b(i - j) phi(k_j)^T v_j / phi(q_i) sum_j e^b(i - j) phi(k_j)^T, |q| = |k| = 1.

    phi(x) = exp(w x - |x|^2 / 2) / sqrt(m) for m fixed random w, orthogonal in blocks: then phi(q) phi(k) is
    exp(q k) on average. The sums over j are convolutions along the sequence, or the raster of `axes` axes.
    Shape: (b, n, d) -> (b, n, d). Offsets beyond `grid` share the last b.
    Cost:  O(n log n m d) time, O(n m d) state.
    Paper: Luo et al., 2021, arXiv:2106.12566, eq. 8-11 and sec. 3.3 (normalised). Departs from it: nothing.
    """

    traits = Traits()

    def __init__(
        self,
        dim: int,
        *,
        features: int = 16,
        axes: int = 1,
        grid: Sequence[int] = (64,),
        head_dim: int = 32,
        normalise: bool = True,
    ) -> None:
        super().__init__()
        self.heads, self.axes, self.normalise = count_heads(dim, head_dim), axes, normalise
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.table = Table(self.heads, axes, tuple(grid), start=0.0)
        self.register_buffer("directions", orthogonal(self.heads, features, head_dim))

    def forward(self, x: Tokens, layout: Layout) -> Tokens:
        grid = raster(layout, x.shape[1], self.axes)
        check_grid(grid, x, "kernel_rpe")
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).unbind(2)  # (b, n, h, e)
        q, k = self.features(q), self.features(k)
        if layout.mask is not None:
            k = k * layout.mask[..., None, None]
        ones = torch.ones_like(v[..., :1])  # the denominator is one more value
        sums = (k[..., None] * torch.cat([v, ones], -1)[..., None, :]).unflatten(1, grid)
        factor = self.table.offsets(grid).exp()[..., None, None]
        sums = convolve(sums, factor, axes=self.axes).flatten(1, self.axes)
        y = torch.einsum("bnhm,bnhme->bnhe", q, sums)
        tiny = torch.finfo(y.dtype).tiny
        return self.out((y[..., :-1] / y[..., -1:].clamp(min=tiny)).flatten(-2))

    def features(self, x: Float[Tensor, "b n h e"]) -> Float[Tensor, "b n h m"]:
        """Positive random features of the exponential kernel; of unit vectors, if so chosen."""
        if self.normalise:
            x = F.normalize(x, dim=-1)
        product = torch.einsum("bnhe,hme->bnhm", x, self.directions.to(x.dtype))
        return torch.exp(product - x.square().sum(-1, keepdim=True) / 2) / math.sqrt(product.shape[-1])


def orthogonal(heads: int, features: int, dim: int) -> Float[Tensor, "h m e"]:
    """Random directions, orthogonal to each other within blocks of `dim`, as long as Gaussian vectors are.

    Source: Choromanski et al., 2020, arXiv:2009.14794, sec. 2.4.
    """
    q, r = torch.linalg.qr(torch.randn(-(-features // dim), heads, dim, dim))
    q = q * r.diagonal(dim1=-2, dim2=-1).sign()[..., None, :]  # without this, not all turns are alike
    lengths = torch.randn(heads, features, dim).norm(dim=-1, keepdim=True)
    return q.transpose(0, 1).flatten(1, 2)[:, :features] * lengths
