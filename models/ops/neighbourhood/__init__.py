"""Neighbourhood attention on rasters of one to three axes: each query attends to the keys nearest to it."""

import math

import torch
from torch import Tensor

from models.ops.dispatch import Backend, Facts, Op
from models.ops.neighbourhood import flex
from models.ops.neighbourhood.geometry import Neighbourhood
from models.ops.neighbourhood.tiled import by_tiles

__all__ = ["NEIGHBOURHOOD", "Neighbourhood", "neighbourhood_attention"]


def neighbourhood_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    table: Tensor | None,
    hood: Neighbourhood,
    *,
    mask: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """softmax(q k^T scale + B) v over the neighbourhood of each query, (b, *grid, h, e) -> (b, *grid, h, e).

    `table` (prod(2 size - 1), h) has a bias for each offset query - key, counted in steps of the dilation,
    row-major from 1 - size; `mask` (b, n) hides keys. `scale` is 1 / sqrt(e) by default.
    Time O(n (tile + size)^k); no n x n scores.
    """
    return NEIGHBOURHOOD(q, k, v, table, hood, mask=mask, scale=scale)


def facts(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    table: Tensor | None,
    hood: Neighbourhood,
    *,
    mask: Tensor | None = None,
    scale: float | None = None,
) -> Facts:
    """What the choice of a backend depends on."""
    training, grid = torch.is_grad_enabled(), q.shape[1:-2]
    return Facts(
        device=q.device.type,
        dtype=q.dtype,
        head_dim=q.shape[-1],
        queries=math.prod(grid),
        keys=math.prod([min(size, n) for size, n in zip(hood.size, grid, strict=True)]),
        grad=training and (q.requires_grad or k.requires_grad or v.requires_grad),
        bias=table is not None,
        bias_grad=training and table is not None and table.requires_grad,
        masked=mask is not None,
        special=flex.special(grid, hood),
    )


NEIGHBOURHOOD = Op(
    "neighbourhood_attention",
    facts,
    [Backend("flex", flex.run, flex.refuses), Backend("tiles", by_tiles, lambda facts: None)],
)
