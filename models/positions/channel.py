"""Channel positions: a learned vector for each place and one for each band, found by its wavelength."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from models.layout import Layout, Tokens
from models.positions.base import POSITIONS, Position
from models.positions.learned import LearnedPosition


@POSITIONS.register
class ChannelPosition(Position):
    """x + places[h, w] + bands[i], i the band whose centre is nearest to the token's wavelength.

    `centres` name the bands that the model knows: nm, or any numbers where layout.wavelengths holds such.
    Shape: (b, n, d) -> (b, n, d), n = c h w of layout.grid; any subset of the bands, in any order.
    Paper: Bao et al., 2023, arXiv:2309.16108, sec. 3.1. Departs from it: bands are named by wavelength.
    """

    def __init__(
        self, dim: int, axes: int, *, centres: Sequence[float], grid: Sequence[int] = (14, 14)
    ) -> None:
        super().__init__()
        if axes != 3:
            raise ValueError(f"channel positions need cubes, of three axes, got {axes}")
        if not centres:
            raise ValueError("channel positions need the centres of the bands, got none")
        self.centres = tuple(centres)
        self.places = LearnedPosition(dim, 2, grid=grid)
        self.bands = nn.Parameter(torch.empty(len(centres), dim))
        nn.init.trunc_normal_(self.bands, std=0.02)

    def forward(self, x: Tokens, layout: Layout) -> Tokens:
        bands, *places = layout.need_grid(3, "channel")
        if layout.wavelengths is None:
            raise ValueError("channel positions need wavelengths in the layout, got none")
        place = self.places.rows((places[0], places[1]))[:, None]  # (1, 1, h w, d)
        band = self.bands[self.nearest(layout.wavelengths)][:, :, None]
        return (x.unflatten(1, (bands, -1)) + place + band).flatten(1, 2)

    def nearest(self, wavelengths: Float[Tensor, "b c"]) -> Int[Tensor, "b c"]:
        """Which known band each is."""
        known = torch.tensor(self.centres, device=wavelengths.device, dtype=wavelengths.dtype)
        return (wavelengths[..., None] - known).abs().argmin(-1)
