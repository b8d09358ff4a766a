"""Rotary position encoding: channel pairs turned by angles that grow with the position."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def rotate(
    x: Float[Tensor, "*s n e"], positions: Float[Tensor, "*s n"], *, octaves: float = 8.0
) -> Float[Tensor, "*s n e"]:
    """Turn channel pairs by angle position * frequency, so that q.k depends on position differences only.

    Frequencies are spread evenly in octaves below pi per unit. Source:
    Su et al., 2021, arXiv:2104.09864, eq. 15.
    """
    pairs = x.shape[-1] // 2
    step = torch.arange(pairs, device=x.device, dtype=positions.dtype) / max(pairs, 1)
    angle = positions[..., None] * (math.pi * torch.exp2(-octaves * step))
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    even, odd, rest = x[..., :pairs], x[..., pairs : 2 * pairs], x[..., 2 * pairs :]
    return torch.cat([even * cos - odd * sin, even * sin + odd * cos, rest], -1)


def turn(x: Float[Tensor, "*s n e"], angle: Float[Tensor, "n p"]) -> Float[Tensor, "*s n e"]:
    """Turn channels 2 p and 2 p + 1 by angle p of their token.

    Source: Su et al., 2021, arXiv:2104.09864, eq. 34.
    """
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack([even * cos - odd * sin, odd * cos + even * sin], -1).flatten(-2)


def raster_angles(
    grid: Sequence[int], pairs: int, like: Tensor, *, base: float = 10000.0
) -> Float[Tensor, "n p"]:
    """Angles for `turn` on a raster: an equal share of the pairs for each axis, place * base^(-i / share)."""
    if pairs % len(grid):
        raise ValueError(f"channel pairs must be a multiple of the {len(grid)} axes, got {pairs}")
    share = pairs // len(grid)
    rates = base ** (-torch.arange(share, device=like.device, dtype=torch.float64) / share)
    axes = [torch.arange(size, device=like.device, dtype=torch.float64) for size in grid]
    places = torch.meshgrid(*axes, indexing="ij")
    angles = torch.cat([place.flatten()[:, None] * rates for place in places], -1)
    return angles.to(torch.promote_types(like.dtype, torch.float32))
