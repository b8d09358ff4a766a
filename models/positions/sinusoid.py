"""Sinusoids of a token's place in the row: fixed, and for rows of any length."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from models.layout import Layout, Tokens
from models.positions.base import POSITIONS, Position


@POSITIONS.register
class SinusoidPosition(Position):
    """x_i + (sin(p w_0), cos(p w_0), sin(p w_1), ...), p = first + i, w_j = 10000^(-2 j / d).

    Shape: (b, n, d) -> (b, n, d). `first` leaves places to tokens that stand before these.
    Paper: Vaswani et al., 2017, arXiv:1706.03762, sec. 3.5. Departs from it: nothing.
    """

    def __init__(self, dim: int, axes: int, *, first: int = 0) -> None:
        super().__init__()
        self.first = first

    def forward(self, x: Tokens, layout: Layout) -> Tokens:
        places = torch.arange(self.first, self.first + x.shape[1], device=x.device)
        return x + sinusoids(places, x.shape[2]).to(x.dtype)


def sinusoids(places: Tensor, dim: int) -> Float[Tensor, "n d"]:
    """One row for each place."""
    pair = torch.arange(dim, device=places.device) // 2
    angle = places[:, None] * torch.exp(pair * (-2 * math.log(10000) / dim))
    even = torch.arange(dim, device=places.device) % 2 == 0
    return torch.where(even, angle.sin(), angle.cos())
