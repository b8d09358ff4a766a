"""Neighbourhood attention by tiles: queries of a tile share the few keys that any of them may see."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from models.ops.attention import attend, open_empty_rows
from models.ops.neighbourhood.geometry import Axis, Neighbourhood, axes_of
from models.ops.windows import merge, pad_to_multiple, partition

TILE = {1: 16, 2: 8, 3: 4}  # queries of a tile on each axis, by rank: 16 to 64 in all
MOST_SCORES = 2**24  # numbers that one step may hold; more tiles are taken in turn


def by_tiles(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    table: Tensor | None,
    hood: Neighbourhood,
    *,
    mask: Tensor | None = None,
    scale: float | None = None,
    most: int = MOST_SCORES,
) -> Tensor:
    """See `neighbourhood_attention`.

    No score outlives its step of at most `most`: with more tiles than fit one step, steps are computed again
    in the backward pass.
    Paper: Hassani et al., 2024, arXiv:2403.04690, sec. 4: a tile of queries visits the keys that meet any of
    their windows, masked inside the tile; here those keys are one block, so its softmax needs one pass.
    """
    _, *grid, h, e = q.shape
    axes = axes_of(grid, hood)
    if scale is not None:
        q = q * (scale * e**0.5)
    tiles = [Tiles.of(axis, TILE[len(grid)], q.device) for axis in axes]
    queries, keys, values = (fold(t.flatten(-2), axes) for t in (q, k, v))  # (b, r, *count, h e)
    hidden = None if mask is None else fold(mask.view(-1, *grid, 1), axes)  # padding counts as hidden
    sizes = [t.queries for t in tiles]
    queries = pad_to_multiple(queries.flatten(0, 1), sizes)
    padded = queries.shape[1:-1]
    queries = partition(queries, sizes).unflatten(0, (-1, residues(axes)))  # (b, r, tiles, tile, h e)

    def step(queries: Tensor, keys: Tensor, values: Tensor, table: Tensor | None, rows: slice) -> Tensor:
        some = [tiles[0].take(rows), *tiles[1:]]
        real = None if hidden is None else block(hidden, some).squeeze(-1)
        bias = bias_of(real, table, axes, some)
        return attend_tiles(queries, block(keys, some), block(values, some), bias, h)

    each = len(tiles[0].keys)  # tiles on the first axis: steps go along it
    row = math.prod([len(t.keys) for t in tiles[1:]])
    scores = queries.shape[:2].numel() * h * row * math.prod([t.queries * t.block for t in tiles])
    width = max(1, min(each, most // scores))
    parts = []
    for start in range(0, each, width):
        rows = slice(start, min(start + width, each))
        here = (queries[:, :, rows.start * row : rows.stop * row], keys, values, table, rows)
        again = width < each and torch.is_grad_enabled()
        parts.append(checkpoint(step, *here, use_reentrant=False) if again else step(*here))
    y = parts[0] if len(parts) == 1 else torch.cat(parts, 2)
    raster = merge(y.flatten(0, 1), sizes, padded)
    raster = raster[(slice(None), *(slice(axis.count) for axis in axes))]
    return unfold(raster.unflatten(0, (-1, residues(axes))), axes).unflatten(-1, (h, e))


class Tiles(NamedTuple):
    """The tiles of one axis, the same for every residue: `queries` places each, and their block of keys."""

    queries: int
    block: int
    places: Tensor  # (tiles, queries): of each query
    keys: Tensor  # (tiles, block): of each key

    @classmethod
    def of(cls, axis: Axis, most: int, device: torch.device) -> "Tiles":
        queries = min(most, axis.count)
        block = min(queries + axis.size - 1, axis.count)
        starts = torch.arange(0, axis.count, queries, device=device)[:, None]
        back = axis.size - 1 if axis.causal else axis.size // 2
        first = (starts - back).clamp(0, axis.count - block)
        inside, around = (torch.arange(size, device=device) for size in (queries, block))
        return cls(queries, block, starts + inside, first + around)

    def take(self, rows: slice) -> "Tiles":
        """Some of the tiles."""
        return self._replace(places=self.places[rows], keys=self.keys[rows])


def residues(axes: Sequence[Axis]) -> int:
    """How many interleaved rasters there are."""
    return math.prod([axis.step for axis in axes])


def fold(x: Tensor, axes: Sequence[Axis]) -> Tensor:
    """(b, *grid, c) -> (b, r, *count, c): the interleaved rasters, filled up with zeros."""
    if residues(axes) == 1:
        return x[:, None]
    rank = len(axes)
    x = pad_to_multiple(x, [axis.step for axis in axes])
    split = [side for axis in axes for side in (axis.count, axis.step)]
    x = x.reshape(x.shape[0], *split, x.shape[-1])
    x = x.permute(0, *range(2, 2 * rank + 1, 2), *range(1, 2 * rank, 2), 2 * rank + 1)
    return x.flatten(1, rank)


def unfold(x: Tensor, axes: Sequence[Axis]) -> Tensor:
    """(b, r, *count, c) -> (b, *grid, c); undoes `fold`."""
    rank = len(axes)
    if residues(axes) > 1:
        x = x.unflatten(1, [axis.step for axis in axes])
        x = x.permute(0, *(i for a in range(rank) for i in (1 + rank + a, 1 + a)), 2 * rank + 1)
    x = x.reshape(x.shape[0], *(axis.count * axis.step for axis in axes), x.shape[-1])
    return x[(slice(None), *(slice(axis.length) for axis in axes))]


def block(x: Tensor, tiles: Sequence[Tiles]) -> Tensor:
    """(b, r, *count, c) -> (b, r, tiles, block, c): what each tile may look at."""
    b = x.shape[0]
    x = x.flatten(0, 1)
    if all(t.block == size and len(t.keys) == 1 for t, size in zip(tiles, x.shape[1:-1], strict=True)):
        return x.flatten(1, -2).unflatten(0, (b, -1))[:, :, None]
    for i, t in enumerate(tiles, start=1):
        x = x.index_select(i, t.keys.flatten())
    return partition(x, [t.block for t in tiles]).unflatten(0, (b, -1))


def attend_tiles(
    q: Tensor,  # (b, r, m, queries, h e)
    k: Tensor,  # (b, r, m, keys, h e)
    v: Tensor,
    bias: Tensor | None,  # (1 or b, 1 or r, m, 1 or h, queries, keys)
    heads: int,
) -> Tensor:
    """Attention of every tile to its block: (b, r, m, queries, h e)."""
    b, r, m = q.shape[:3]
    apart = bias is not None and bias.shape[1] > 1  # residues differ: they stand beside the heads
    lead = (b, r * m * heads) if apart else (b * r, m * heads)
    q, k, v = (
        t.unflatten(-1, (heads, -1)).transpose(3, 4).reshape(*lead, t.shape[-2], -1) for t in (q, k, v)
    )
    if bias is not None:
        bias = bias.expand(-1, -1, -1, heads, -1, -1)
        bias = bias.flatten(1, 3) if apart else bias.flatten(2, 3).flatten(0, 1)
    y = attend(q, k, v, bias)
    return y.reshape(b, r, m, heads, *y.shape[-2:]).transpose(3, 4).flatten(-2)


def bias_of(
    real: Tensor | None, table: Tensor | None, axes: Sequence[Axis], tiles: Sequence[Tiles]
) -> Tensor | None:
    """What to add to the scores of every tile, or who may see whom; None where all see all."""
    if table is None and real is None and all(axis.whole for axis in axes):
        return None
    rank, device = len(axes), tiles[0].keys.device
    same = all(axis.uniform for axis in axes)
    allowed = torch.ones([1] * 4 * rank, dtype=torch.bool, device=device)
    row = torch.zeros([1] * 4 * rank, dtype=torch.long, device=device)
    for i, (axis, t) in enumerate(zip(axes, tiles, strict=True)):
        residue = torch.arange(1 if same else axis.step, device=device)[:, None, None]
        first, end = (edge[..., None] for edge in axis.window(residue, t.places))
        seen = (first <= t.keys[:, None]) & (t.keys[:, None] < end)  # (r, m, queries, keys)
        offset = (t.places[..., None] - t.keys[:, None]).clamp(1 - axis.size, axis.size - 1)[None]
        allowed = allowed & spread(seen, i, rank)
        row = row * (2 * axis.size - 1) + spread(offset + axis.size - 1, i, rank)
    allowed, row = (
        t.reshape([math.prod(t.shape[i * rank : (i + 1) * rank]) for i in range(4)]) for t in (allowed, row)
    )
    allowed = allowed[None, :, :, None]
    if real is not None:
        allowed = allowed & real[:, :, :, None, None]
    allowed = open_empty_rows(allowed)
    if table is None:
        return allowed
    bias = table[row].permute(0, 1, 4, 2, 3)[None]  # (1, 1, m, h, queries, keys)
    return bias.masked_fill(~allowed, -torch.inf)


def spread(x: Tensor, axis: int, rank: int) -> Tensor:
    """Dimensions of one axis among those of all: the first of each axis, then the second of each, and on."""
    shape = [1] * (x.ndim * rank)
    shape[axis::rank] = x.shape
    return x.view(shape)
