"""Fourier positions: sines and cosines of where a token lies, mapped to channels."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from models.layout import Layout, Tokens
from models.positions.base import POSITIONS, Position


@POSITIONS.register
class FourierPosition(Position):
    """x + W [p, sin(pi 2^k p), cos(pi 2^k p)]_k over the axes, p from `places`.

    Shape: (b, n, d) -> (b, n, d).
    Paper: Tancik et al., 2020, arXiv:2006.10739 (axis-aligned powers of two). Departs from it: W is learned.
    """

    def __init__(self, dim: int, axes: int, *, octaves: int = 6) -> None:
        super().__init__()
        self.axes, self.octaves = axes, octaves
        self.project = nn.Linear(axes * (2 * octaves + 1), dim, bias=False)

    def forward(self, x: Tokens, layout: Layout) -> Tokens:
        place = places(layout, like=x)
        if place.shape[-1] != self.axes:
            raise ValueError(f"positions were built for {self.axes} axes, the layout has {place.shape[-1]}")
        angle = place[..., None] * (math.pi * 2.0 ** torch.arange(self.octaves, device=x.device))
        features = torch.cat([place[..., None], angle.sin(), angle.cos()], -1).flatten(-2)
        return x + self.project(features.to(x.dtype))


def places(layout: Layout, *, like: Tensor) -> Float[Tensor, "b n k"]:
    """Where each token is: coords as given; grid axes from -1 to 1; bands in micrometres; times in s."""
    if layout.coords is not None:
        return layout.coords
    if layout.grid is None:
        raise ValueError("positions need coords or a grid in the layout, got neither")
    axes = [
        (2 * torch.arange(size, device=like.device, dtype=torch.float32) + 1) / size - 1
        for size in layout.grid
    ]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flatten(0, -2)[None]  # (1, n, k)
    first = layout.times if layout.wavelengths is None else layout.wavelengths / 1000
    if first is None:
        return grid
    places_in_slice = grid.shape[1] // layout.grid[0]
    first = first.float().repeat_interleave(places_in_slice, dim=1)  # (b, n)
    return torch.cat([first[..., None], grid[..., 1:].expand(first.shape[0], -1, -1)], -1)
