"""Kronecker attention: a spectral and a spatial attention of few channels each, multiplied."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from models.layout import Layout, Tokens, check_grid
from models.mixers._heads import merge_heads, split_heads
from models.mixers.base import MIXERS, TokenMixer, Traits
from models.norms.layer import LayerNorm
from models.ops.attention import attend, open_empty_rows


class Pool(nn.Module):
    """First token of a row plus what it finds by attention over the row: (b, m, n, d) -> (b, m, d)."""

    def __init__(self, dim: int, heads: int, eps: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm = LayerNorm(dim, eps=eps)
        self.q, self.kv, self.out = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim), nn.Linear(dim, dim)

    def forward(self, x: Float[Tensor, "b m n d"], keys: Bool[Tensor, "b m n"] | None) -> Tensor:
        rows = self.norm(x.flatten(0, 1), Layout())
        k, v = (split_heads(t, self.heads) for t in self.kv(rows).chunk(2, dim=-1))
        bias = None if keys is None else open_empty_rows(keys.flatten(0, 1))[:, None, None]
        y = merge_heads(attend(split_heads(self.q(rows[:, :1]), self.heads), k, v, bias))
        return x[:, :, 0] + self.out(y).unflatten(0, x.shape[:2])[:, :, 0]


class Branch(nn.Module):
    """Attention along one axis without an output projection: (b, n, d) -> (b, r, h, n, e), r ranks, one v."""

    def __init__(self, dim: int, heads: int, rank: int, eps: float) -> None:
        super().__init__()
        self.heads, self.rank = heads, rank
        self.norm = LayerNorm(dim, eps=eps)
        self.qk, self.v = nn.Linear(dim, 2 * rank * dim), nn.Linear(dim, dim)

    def forward(self, x: Float[Tensor, "b n d"], allowed: Tensor | None) -> Tensor:
        x = self.norm(x, Layout())
        q, k = self.qk(x).unflatten(-1, (2, self.heads * self.rank, -1)).permute(2, 0, 3, 1, 4)
        v = split_heads(self.v(x), self.heads).repeat_interleave(self.rank, dim=1)
        return attend(q, k, v, allowed).unflatten(1, (self.heads, self.rank)).transpose(1, 2)


@MIXERS.register
class KroneckerAttention(TokenMixer):
    """y = W sum_r (A_c V_c) x (A_s V_s) = W sum_r (A_c x A_s)(V_c x V_s), x the Kronecker product, per head.

    The raster is (bands, places); its first row and column hold class tokens of the places and of the bands.
    Each band is pooled to `spectral` channels a head, each place to the rest, by attention from its class
    token. `radius` hides places further away than so many metres, layout.coords (the first is a class token).
    Shape: (b, n, d) -> (b, n, d), n = c s of layout.grid; any number of bands.
    Cost:  O(n d + c^2 d_c + s^2 d_s) time, d_c d_s = d of a head.
    Paper: Si et al., 2025, arXiv:2503.12843, sec. 3.3. Departs from it: nothing.
    """

    traits = Traits(grid_axes=2)

    def __init__(
        self,
        dim: int,
        *,
        head_dim: int = 16,
        spectral: int = 4,
        rank: int = 1,
        radius: float | None = None,
        eps: float = 1e-6,
    ) -> None:
        super().__init__()
        if head_dim < 1 or dim % head_dim:
            raise ValueError(f"head_dim must divide dim, got dim={dim}, head_dim={head_dim}")
        if spectral < 1 or head_dim % spectral:
            raise ValueError(f"spectral must divide head_dim, got head_dim={head_dim}, spectral={spectral}")
        heads = dim // head_dim
        bands, places = heads * spectral, heads * (head_dim // spectral)
        self.radius = radius
        self.to_bands, self.to_places = nn.Linear(dim, bands), nn.Linear(dim, places)
        self.pool_bands, self.pool_places = Pool(bands, heads, eps), Pool(places, heads, eps)
        self.bands, self.places = Branch(bands, heads, rank, eps), Branch(places, heads, rank, eps)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tokens, layout: Layout) -> Tokens:
        grid = layout.need_grid(2, "kronecker")
        check_grid(grid, x, "kronecker")
        bands, places = self.pooled(x, layout)
        real = None if layout.mask is None else layout.mask.unflatten(1, grid)
        across = None if real is None else open_empty_rows(real.any(2))[:, None, None]
        y_bands = self.bands(bands, across)  # (b, r, h, c, e)
        y_places = self.places(places, self.near(layout, real))  # (b, r, h, s, f)
        y = torch.einsum("brhce,brhsf->bcshef", y_bands, y_places)
        return self.out(y.flatten(-3).flatten(1, 2))

    def pooled(self, x: Tokens, layout: Layout) -> tuple[Tensor, Tensor]:
        """One vector for each band, one for each place: (b, c, d_c), (b, s, d_s)."""
        grid = layout.need_grid(2, "kronecker")
        real = None if layout.mask is None else layout.mask.unflatten(1, grid)
        if layout.mask is not None:
            x = x * layout.mask[..., None]  # a hidden class token asks for nothing
        raster = x.unflatten(1, grid)
        bands = self.pool_bands(self.to_bands(raster), real)
        return bands, self.pool_places(
            self.to_places(raster).transpose(1, 2), None if real is None else real.mT
        )

    def near(self, layout: Layout, real: Bool[Tensor, "b c s"] | None) -> Tensor | None:
        """Which places each place may see, if not all."""
        keys = None if real is None else real.any(1)[:, None, None]
        if self.radius is not None:
            if layout.coords is None:
                raise ValueError("kronecker with a radius needs coords in metres in the layout, got none")
            metres = layout.coords[:, : layout.need_grid(2, "kronecker")[1]]
            near = torch.cdist(metres, metres) <= self.radius
            first = torch.arange(near.shape[-1], device=near.device) == 0
            near = (near | first | first[:, None])[:, None]
            keys = near if keys is None else near & keys
        return None if keys is None else open_empty_rows(keys)
