"""Spatial-spectral attention: half of the heads over space, half over bands, placed by wavelength."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from models.layout import Layout, Tokens, check_grid
from models.mixers._heads import count_heads
from models.mixers.base import MIXERS, TokenMixer, Traits
from models.ops.attention import attend, open_empty_rows
from models.ops.rotary import rotate

NM_PER_UNIT = 1000.0  # rotary positions are micrometres


@MIXERS.register
class SpatialSpectralAttention(TokenMixer):
    """y = W [softmax over (h, w) of one band | softmax over c of one place, rotary in nm], heads halved.

    Shape: (b, n, d) -> (b, n, d), n = c h w of layout.grid; any number of bands. Without layout.wavelengths
        the bands are a set.
    Cost:  O(n (h w + c) d) time.
    Paper: heads split between axes as in Dong et al., 2021, arXiv:2107.00652, eq. 3, the axes as in
        Scheibenreif et al., 2023 (masked vision transformers for hyperspectral images). Departs from them:
        rotary wavelengths.
    """

    traits = Traits(grid_axes=3)

    def __init__(self, dim: int, *, head_dim: int = 16) -> None:
        super().__init__()
        self.heads = count_heads(dim, head_dim)
        if self.heads % 2:
            raise ValueError(f"the heads are halved, so dim / head_dim must be even, got {dim} / {head_dim}")
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tokens, layout: Layout) -> Tokens:
        grid = layout.need_grid(3, "spatial_spectral")
        check_grid(grid, x, "spatial_spectral")
        bands, half = grid[0], self.heads // 2
        qkv = self.qkv(x).unflatten(1, (bands, -1)).unflatten(-1, (3, 2, half, -1))
        space, spectrum = qkv.permute(3, 4, 0, 1, 2, 5, 6).unbind(1)  # each (3, b, c, s, h/2, e)
        mask = None if layout.mask is None else layout.mask.unflatten(1, (bands, -1))
        y_space = self._along(space.transpose(3, 4), None if mask is None else mask)
        spectrum = spectrum.permute(0, 1, 3, 4, 2, 5)  # (3, b, s, h/2, c, e)
        if layout.wavelengths is not None:
            spectrum = self._rotate(spectrum, layout.wavelengths)
        y_bands = self._along(spectrum, None if mask is None else mask.mT).transpose(
            1, 2
        )  # (b, c, s, h/2, e)
        return self.out(torch.cat([y_space, y_bands], -2).flatten(-2).flatten(1, 2))

    @staticmethod
    def _along(qkv: Float[Tensor, "3 b r h n e"], mask: Tensor | None) -> Float[Tensor, "b r n h e"]:
        q, k, v = qkv.flatten(1, 2)
        keys = None if mask is None else open_empty_rows(mask.flatten(0, 1))[:, None, None]
        return attend(q, k, v, keys).unflatten(0, qkv.shape[1:3]).transpose(2, 3)

    @staticmethod
    def _rotate(qkv: Tensor, wavelengths: Float[Tensor, "b c"]) -> Tensor:
        """Rotate q and k by wavelength, octaves up to 32 turns a micrometre."""
        q, k, v = qkv
        positions = (wavelengths / NM_PER_UNIT * 32)[:, None, None]  # (b, 1, 1, c)
        positions = positions.expand(*q.shape[:3], -1)
        return torch.stack([rotate(q, positions), rotate(k, positions), v])
