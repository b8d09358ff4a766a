"""What every score promises."""

import math
from abc import ABC

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from models.layout import Layout
from models.registry import Registry

Heads = Float[Tensor, "b h n e"]


class Score(nn.Module, ABC):
    """softmax(turn(q) turn(k)^T / sqrt(e) + bias) * gain, each left as it is by default.

    Built as (heads, axes of the raster, *, options). Tokens of `layout.prefix` lie nowhere: no bias, gain 1.
    """

    def turn(self, q: Heads, k: Heads, layout: Layout) -> tuple[Heads, Heads]:
        """Queries and keys as the product of them sees them."""
        return q, k

    def bias(self, layout: Layout, n: int) -> Float[Tensor, "h n n"] | None:
        """What is added before the softmax, for n tokens."""
        return None

    def gain(self, layout: Layout, n: int) -> Float[Tensor, "h n n"] | None:
        """What is multiplied behind the softmax, for n tokens."""
        return None


SCORES: Registry[Score] = Registry("models.scores")


def raster(layout: Layout, n: int, axes: int) -> tuple[int, ...]:
    """Sizes of the axes along which n tokens lie; one axis holds any sequence."""
    if axes == 1:
        return (n - layout.prefix,)
    return layout.need_grid(axes, "this score")


def offsets_in(largest: tuple[int, ...], grid: tuple[int, ...], device: torch.device) -> Int[Tensor, "n n"]:
    """Row of a table of prod(2 N - 1) for each pair (i, j); offsets beyond N - 1 share the last row."""
    axes = [torch.arange(size, device=device) for size in grid]
    places = torch.stack(torch.meshgrid(*axes, indexing="ij")).flatten(1)
    index = torch.zeros(math.prod(grid), math.prod(grid), dtype=torch.long, device=device)
    for place, most in zip(places, largest, strict=True):
        offset = (place[:, None] - place[None]).clamp(1 - most, most - 1)
        index = index * (2 * most - 1) + offset + most - 1
    return index


def pad_prefix(table: Float[Tensor, "h n n"], prefix: int, value: float) -> Float[Tensor, "h m m"]:
    """Rows and columns of `value` for tokens that lie nowhere."""
    return table if not prefix else nn.functional.pad(table, (prefix, 0, prefix, 0), value=value)


class Table(nn.Module):
    """One number for each head and offset on rasters up to `grid`: prod(2 n - 1) of them a head."""

    def __init__(self, heads: int, axes: int, grid: tuple[int, ...], *, start: float) -> None:
        super().__init__()
        if len(grid) != axes or min(grid) < 1:
            raise ValueError(f"grid must be {axes} positive sizes, got {grid}")
        self.grid = grid
        self.weight = nn.Parameter(torch.full((math.prod(2 * n - 1 for n in grid), heads), start))

    def forward(self, grid: tuple[int, ...]) -> Float[Tensor, "h n n"]:
        return self.weight[offsets_in(self.grid, grid, self.weight.device)].permute(2, 0, 1)

    def offsets(self, grid: tuple[int, ...]) -> Float[Tensor, "*o h"]:
        """The numbers for offsets 1 - n .. n - 1 of each axis, once each: (2 n - 1, ..., h)."""
        table = self.weight.unflatten(0, [2 * most - 1 for most in self.grid])
        for axis, (size, most) in enumerate(zip(grid, self.grid, strict=True)):
            place = torch.arange(1 - size, size, device=table.device).clamp(1 - most, most - 1) + most - 1
            table = table.index_select(axis, place)
        return table
