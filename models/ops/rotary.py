"""Rotary position encoding for positions that are real numbers, such as wavelengths."""

import math

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
