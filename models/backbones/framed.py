"""One stage for cubes, as rows of bands and columns of places with a frame of class tokens."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.backbones.base import BACKBONES, Backbone, Mixers, by_stage, ramp, run, stack
from models.layout import Layout, Stage, Tokens
from models.norms.base import NORMS
from models.ops.sincos import plane_waves, waves
from models.registry import Part


@BACKBONES.register
class Framed(Backbone):
    """Frame, position, `depth` blocks on a raster (c + 1, h w + 1), norm; the corner leaves as prefix.

    Row 0 holds a class token for each place, column 0 one for each band, the corner one for all. A position
    is the mean of the waves of a place and of a wavelength in nm, zeros for what a class token has not.
    Places lie `metres` apart, which mixers find in layout.coords, and `step` apart in their waves.
    Paper: Si et al., 2025, arXiv:2503.12843, sec. 3.2. Departs from it: nothing.
    """

    def __init__(
        self,
        axes: int,
        mixers: Mixers,
        block: Mapping[str, Any],
        *,
        dim: int,
        depth: int,
        drop_path: float = 0.0,
        norm: Part | None = "layer",
        metres: float = 160.0,
        step: float = 10.0,
    ) -> None:
        super().__init__()
        if axes != 3:
            raise ValueError(f"a framed backbone needs cubes, of three axes, got {axes}")
        if dim % 4:
            raise ValueError(f"a framed backbone needs 4 to divide dim, got dim={dim}")
        self.dims, self.metres, self.step = (dim,), metres, step
        self.position = None  # its own
        ((turn, _),) = by_stage(mixers, [depth])
        self.blocks = stack(dim, 2, turn, block, ramp(drop_path, depth))
        self.norm = None if norm is None else NORMS.build(norm, dim)
        self.corner, self.row, self.column = (nn.Parameter(torch.empty(1, 1, 1, dim)) for _ in range(3))
        for token in (self.corner, self.row, self.column):
            nn.init.normal_(token, std=0.02)

    def forward(self, x: Tokens, layout: Layout) -> list[Stage]:
        bands, h, w = layout.need_grid(3, "framed")
        b = x.shape[0]
        raster = torch.cat([self.row.expand(b, 1, h * w, -1), x.unflatten(1, (bands, -1))], 1)
        column = torch.cat([self.corner.expand(b, -1, -1, -1), self.column.expand(b, bands, -1, -1)], 1)
        framed = torch.cat([column, raster], 2) + self._places(layout, h, w, x)
        metres = self._metres(bands, h, w, x)
        inner = Layout(grid=(bands + 1, h * w + 1), coords=metres, mask=self._mask(layout))
        y = run(self.blocks, framed.flatten(1, 2), inner)
        if self.norm is not None:
            y = self.norm(y, inner)
        y = y.unflatten(1, framed.shape[1:3])
        return [Stage(y[:, 1:, 1:].flatten(1, 2), layout, prefix=y[:, 0, :1])]

    def _places(self, layout: Layout, h: int, w: int, x: Tokens) -> Tensor:
        if layout.wavelengths is None:
            raise ValueError("a framed backbone needs wavelengths in the layout, got none")
        dim = x.shape[-1]
        plane = F.pad(plane_waves(h, w, dim, step=self.step, device=x.device), (0, 0, 1, 0))
        bands = F.pad(waves(layout.wavelengths.float(), dim), (0, 0, 1, 0))
        return ((bands[:, :, None] + plane) / 2).to(x.dtype)

    def _metres(self, bands: int, h: int, w: int, x: Tokens) -> Tensor:
        rows, columns = (torch.arange(n, device=x.device, dtype=torch.float32) * self.metres for n in (h, w))
        places = F.pad(torch.cartesian_prod(rows, columns), (0, 0, 1, 0))
        return places.repeat(bands + 1, 1).expand(x.shape[0], -1, -1)

    def _mask(self, layout: Layout) -> Tensor | None:
        if layout.mask is None:
            return None
        assert layout.grid is not None
        real = layout.mask.unflatten(1, (layout.grid[0], -1))
        # a class token is there if one of its tokens is
        real = torch.cat([real.any(1, keepdim=True), real], 1)
        return torch.cat([real.any(2, keepdim=True), real], 2).flatten(1)
