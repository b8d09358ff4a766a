"""Neighbourhood attention by FlexAttention: tokens in tiles, a table of tiles that each tile may see."""

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from models.ops.dispatch import Facts
from models.ops.neighbourhood.geometry import Axis, Neighbourhood, axes_of
from models.ops.neighbourhood.tiled import fold, residues, unfold
from models.ops.windows import merge, pad_to_multiple, partition

TILE = {1: (128,), 2: (8, 16), 3: (4, 4, 8)}  # 128 tokens: a block of FlexAttention


def refuses(facts: Facts) -> str | None:
    """Why FlexAttention cannot serve these facts."""
    if facts.device != "cuda":
        return f"it is compiled for CUDA, and trains nowhere else; got {facts.device}"
    if facts.dtype not in (torch.float16, torch.bfloat16, torch.float32):
        return f"it computes in float16, bfloat16 or float32, got {facts.dtype}"
    if facts.head_dim < 16:
        return f"heads have at least 16 channels, got {facts.head_dim}"
    if facts.bias_grad:
        return "gradients of a captured table are sums in no fixed order"
    return facts.special or None


def special(grid: Sequence[int], hood: Neighbourhood) -> str:
    """What about these neighbourhoods stands in the way; empty if nothing does."""
    if not all(axis.uniform for axis in axes_of(grid, hood)):
        return "the dilation cuts the raster into parts of different sizes"
    return ""


def run(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    table: Tensor | None,
    hood: Neighbourhood,
    *,
    mask: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """See `neighbourhood_attention`."""
    _, *grid, heads, e = q.shape
    axes, tile = axes_of(grid, hood), TILE[len(grid)]
    padded = [-(-axis.count // size) * size for axis, size in zip(axes, tile, strict=True)]

    def order(x: Tensor) -> Tensor:  # (b, *grid, h, e) -> (b r, h, n, e), tile by tile
        x = pad_to_multiple(fold(x.flatten(-2), axes).flatten(0, 1), tile)
        return partition(x, tile).flatten(1, 2).unflatten(-1, (heads, -1)).transpose(1, 2)

    place, first, end = places(axes, tile, padded, q.device)
    hidden = None
    if mask is not None:
        raster = pad_to_multiple(fold((~mask).view(-1, *grid, 1), axes).flatten(0, 1), tile)
        hidden = partition(raster, tile).flatten(1)
    sizes = [axis.size for axis in axes]

    def sees(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        seen = (first[0, i] <= place[0, j]) & (place[0, j] < end[0, i])
        for a in range(1, len(sizes)):
            seen = seen & (first[a, i] <= place[a, j]) & (place[a, j] < end[a, i])
        return seen if hidden is None else seen & ~hidden[b, j]

    def bias(score: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        row = torch.zeros_like(i)
        for a, size in enumerate(sizes):
            offset = (place[a, i] - place[a, j]).clamp(1 - size, size - 1)
            row = row * (2 * size - 1) + offset + size - 1
        return score if table is None else score + table[row, h]

    n = math.prod(padded)
    counts, indices = blocks(axes, tile, padded, q.device)
    block_mask = BlockMask.from_kv_blocks(
        counts[None, None], indices[None, None], BLOCK_SIZE=math.prod(tile), mask_mod=sees, seq_lengths=(n, n)
    )
    attention = compiled() if q.is_cuda else flex_attention  # eager holds every score: for tests
    options: dict[str, Any] = {"score_mod": None if table is None else bias, "block_mask": block_mask}
    y = attention(order(q), order(k), order(v), scale=scale, **options)
    y = y.transpose(1, 2).flatten(-2).unflatten(1, (-1, math.prod(tile)))
    raster = merge(y, tile, padded)[(slice(None), *(slice(axis.count) for axis in axes))]
    return unfold(raster.unflatten(0, (-1, residues(axes))), axes).unflatten(-1, (heads, e))


@cache
def compiled() -> Any:
    """FlexAttention as a kernel; one for each shape."""
    return torch.compile(flex_attention, dynamic=False)


def places(
    axes: list[Axis], tile: tuple[int, ...], padded: list[int], device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """For each axis and token in tile order: its place, the first key it sees, and one past the last."""
    rows = []
    ranges = torch.meshgrid(*(torch.arange(p, device=device) for p in padded), indexing="ij")
    for axis, position in zip(axes, ranges, strict=True):
        place = partition(position[None, ..., None], tile).flatten()
        first, end = axis.window(torch.zeros_like(place), place)
        rows.append((place, first, end))
    place, first, end = (torch.stack(columns) for columns in zip(*rows, strict=True))
    return place, first, end


def blocks(
    axes: list[Axis], tile: tuple[int, ...], padded: list[int], device: torch.device
) -> tuple[Tensor, Tensor]:
    """How many tiles each tile may see, (t,), and which, (t, t at most): from edges alone, no n x n mask."""
    low, high, widths = [], [], []  # of each axis: range of tiles that a tile sees, and how many at most
    for axis, size, length in zip(axes, tile, padded, strict=True):
        start = torch.arange(0, length, size, device=device)
        last = (start + size).clamp(max=axis.count) - 1
        zero = torch.zeros_like(start)
        first, _ = axis.window(zero, start)
        _, end = axis.window(zero, last)
        low.append(first // size)
        high.append((end - 1) // size + 1)
        keys = size + axis.size - 1  # at most, and they may start anywhere in a tile
        widths.append(min(len(start), (keys - 2) // size + 2))
    index = torch.zeros([1] * 2 * len(axes), dtype=torch.long, device=device)
    inside = torch.ones_like(index, dtype=torch.bool)
    for a, (start, stop, width) in enumerate(zip(low, high, widths, strict=True)):
        seen = start[:, None] + torch.arange(width, device=device)  # (tiles of the axis, width)
        shape = [1] * (2 * len(axes))
        shape[a], shape[len(axes) + a] = seen.shape
        index = index * len(start) + seen.view(shape)
        inside = inside & (seen < stop[:, None]).view(shape)
    tiles = math.prod(len(start) for start in low)
    index, inside = (t.reshape(tiles, -1) for t in (index, inside))
    order = (~inside).long().argsort(dim=1, stable=True)  # tiles that are seen come first
    counts = inside.sum(1)
    index = index.gather(1, order).where(inside.gather(1, order), 0)
    filled = torch.zeros(tiles, tiles, dtype=torch.int32, device=device)  # the width that BlockMask wants
    filled[:, : index.shape[1]] = index
    return counts.to(torch.int32), filled
