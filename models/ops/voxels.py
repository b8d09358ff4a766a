"""Convolutions on the cells that points occupy, and on no other."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from models.layout import Coords, Mask


def cells_of(coords: Coords, count: Sequence[int]) -> Int[Tensor, "b n k"]:
    """Which of `count` cells along each axis a coordinate in [-1, 1] lies in; those beyond go to the edge."""
    counts = torch.tensor(count, device=coords.device)
    return torch.minimum(((coords + 1) / 2 * counts).long().clamp(min=0), counts - 1)


class Neighbours(NamedTuple):
    """Cells that hold points, found by sorting."""

    cell: Int[Tensor, "b n"]  # number of each token's cell, of n at most
    near: Int[Tensor, "b n o"]  # cells at the offsets from each cell; n where there is none


def neighbours(cells: Int[Tensor, "b n k"], mask: Mask | None, offsets: Int[Tensor, "o k"]) -> Neighbours:
    """The occupied cells and who lies at `offsets` from each: O(n log n), no raster is made."""
    reach = 2**20  # 20 bits an axis, so three axes fit in 63, and what lies below zero meets no cell

    def key(places: Tensor) -> Tensor:
        code = torch.zeros_like(places[..., 0])
        for axis in range(places.shape[-1]):
            code = code * reach + places[..., axis]
        return code

    far = torch.iinfo(torch.int64).max
    keys = key(cells)
    if mask is not None:
        keys = keys.masked_fill(~mask, far)
    ordered, order = keys.sort(dim=1, stable=True)
    number = (ordered[:, 1:] != ordered[:, :-1]).cumsum(1)
    number = torch.cat([torch.zeros_like(keys[:, :1]), number], 1)
    cell = torch.empty_like(number).scatter(1, order, number)
    occupied = torch.full_like(keys, far).scatter(1, number, ordered)
    wanted = occupied[..., None] + (key(offsets) - key(torch.zeros_like(offsets[:1])))
    index = torch.searchsorted(occupied, wanted.flatten(1)).clamp(max=keys.shape[1] - 1)
    found = (occupied.gather(1, index) == wanted.flatten(1)) & (wanted.flatten(1) != far)
    return Neighbours(cell, torch.where(found, index, keys.shape[1]).unflatten(1, wanted.shape[1:]))


def mean_of_cells(x: Float[Tensor, "b n d"], cell: Int[Tensor, "b n"], mask: Mask | None) -> Tensor:
    """Mean of the tokens of each cell: (b, n, d), zeros where there is no such cell."""
    weight = torch.ones_like(x[..., :1]) if mask is None else mask[..., None].to(x.dtype)
    room = torch.zeros_like(x).scatter_add(1, cell[..., None].expand_as(x), x * weight)
    count = torch.zeros_like(weight).scatter_add(1, cell[..., None], weight)
    return room / count.clamp(min=1)


def convolve_cells(
    x: Float[Tensor, "b n d"], index: Int[Tensor, "b n o"], weight: Float[Tensor, "o d"]
) -> Float[Tensor, "b n d"]:
    """y_i = sum_o weight_o * x at offset o from i, each channel by itself; empty cells are zeros."""
    padded = torch.cat([x, torch.zeros_like(x[:, :1])], 1)
    where = index.flatten(1)[..., None].expand(-1, -1, x.shape[-1])
    return torch.einsum("bnod,od->bnd", padded.gather(1, where).unflatten(1, index.shape[1:]), weight)
