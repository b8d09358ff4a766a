"""Neighbourhood attention written as what it means: dense attention under a mask."""

import torch
from torch import Tensor

from models.ops.attention import open_empty_rows
from models.ops.neighbourhood.geometry import Neighbourhood, axes_of


def reference(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    table: Tensor | None,
    hood: Neighbourhood,
    *,
    mask: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """See `neighbourhood_attention`. O(n^2) memory: for tests."""
    _, *grid, _, e = q.shape
    allowed, row = pairs(grid, hood, q.device)
    q, k, v = (t.flatten(1, len(grid)).transpose(1, 2) for t in (q, k, v))  # (b, h, n, e)
    scores = q @ k.mT * (e**-0.5 if scale is None else scale)
    if table is not None:
        scores = scores + table[row].permute(2, 0, 1)
    seen = allowed[None, None] if mask is None else allowed & mask[:, None, None, :]
    scores = scores.masked_fill(~open_empty_rows(seen), -torch.inf)
    return (scores.softmax(-1) @ v).transpose(1, 2).unflatten(1, grid)


def pairs(grid: list[int], hood: Neighbourhood, device: torch.device) -> tuple[Tensor, Tensor]:
    """For every pair of places (n, n): whether the first sees the second, and their row of the bias table."""
    allowed = torch.ones(1, 1, dtype=torch.bool, device=device)
    row = torch.zeros(1, 1, dtype=torch.long, device=device)
    for axis in axes_of(grid, hood):
        place = torch.arange(axis.length, device=device)
        residue, index = place % axis.step, place // axis.step
        first, end = (edge[:, None] for edge in axis.window(residue, index))
        seen = (residue[:, None] == residue[None]) & (first <= index[None]) & (index[None] < end)
        offset = (index[:, None] - index[None]).clamp(1 - axis.size, axis.size - 1) + axis.size - 1
        n = len(allowed) * axis.length
        allowed = (allowed[:, None, :, None] & seen[None, :, None, :]).reshape(n, n)
        row = (row[:, None, :, None] * (2 * axis.size - 1) + offset[None, :, None, :]).reshape(n, n)
    return allowed, row
