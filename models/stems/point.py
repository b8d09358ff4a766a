"""Point clouds to tokens: one linear map of each point's features, one token a point."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from models.layout import Coords, Layout, Mask, Tokens
from models.stems.base import STEMS, Side, Stem


@STEMS.register
class PointStem(Stem):
    """(b, n, f) features with coords (b, n, 3) -> (b, n, d); the layout's coords lie in [-1, 1]."""

    axes, shape = 3, "b n f"

    def __init__(self, in_chans: int, dim: int) -> None:
        super().__init__()
        self.in_chans, self.patch, self.cells, self.values = in_chans, 1, 1, in_chans
        self.project = nn.Linear(in_chans, dim)

    def forward(self, x: Tensor, side: Side) -> tuple[Tokens, Layout]:
        side.only("point", "coords", "mask")
        if side.coords is None or side.coords.shape != (*x.shape[:2], 3):
            got = None if side.coords is None else tuple(side.coords.shape)
            raise ValueError(f"points need coords of shape {(*x.shape[:2], 3)}, got {got}")
        return self.project(self.cut(x)), Layout(coords=centre(side.coords, side.mask), mask=side.mask)

    def cut(self, x: Tensor) -> Float[Tensor, "b n v"]:
        self.check(x)
        if x.shape[-1] != self.in_chans:
            raise ValueError(f"points must have {self.in_chans} features, got shape {tuple(x.shape)}")
        return x

    def join(self, values: Float[Tensor, "b n v"], size: Sequence[int]) -> Tensor:
        return values


def centre(coords: Coords, mask: Mask | None) -> Coords:
    """Move and scale each cloud so that its bounding box is centred and its longest side is 2."""
    hidden = torch.zeros_like(coords[..., :1], dtype=torch.bool) if mask is None else ~mask[..., None]
    low = coords.masked_fill(hidden, torch.inf).amin(1, keepdim=True)
    high = coords.masked_fill(hidden, -torch.inf).amax(1, keepdim=True)
    extent = (high - low).amax(-1, keepdim=True).clamp(min=torch.finfo(coords.dtype).tiny)
    return ((2 * coords - low - high) / extent).masked_fill(hidden, 0.0)
