"""Local attention written as what it means: dense attention under a mask of who shares a window."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from models.ops.local.windows import Windows


def reference(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    table: Tensor | None,
    windows: Windows,
    *,
    mask: Tensor | None = None,
    pad: tuple[Tensor, Tensor] | None = None,
    scale: float | None = None,
) -> Tensor:
    """See `local_attention`. O(n^2) memory: for tests."""
    b, *grid, _, e = q.shape
    padded = windows.padded(grid)
    ends = [0, 0, 0, 0] + [
        end for size, p in zip(reversed(grid), reversed(padded), strict=True) for end in (0, p - size)
    ]
    real = F.pad(q.new_ones(b, *grid, 1, 1), ends).flatten(1).bool()
    q, k, v = (F.pad(t, ends).flatten(1, len(grid)).transpose(1, 2) for t in (q, k, v))  # (b, h, n, e)
    if pad is not None:
        k, v = (
            torch.where(real[:, None, :, None], t, p[None, :, None]) for t, p in zip((k, v), pad, strict=True)
        )
    visible = real if pad is None else torch.ones_like(real)
    if mask is not None:
        visible = visible & ~(~F.pad(mask.unflatten(1, grid)[..., None, None], ends, value=True)).flatten(1)
    group, place = torch.zeros_like(real[0], dtype=torch.long), []
    axes = torch.meshgrid(*(torch.arange(p, device=q.device) for p in padded), indexing="ij")
    for position, p, w, shift, strided in zip(
        axes, padded, windows.size, windows.shift, windows.strided, strict=True
    ):
        position = position.flatten()
        moved = position if strided else (position - shift) % p
        window, inside = (moved % (p // w), moved // (p // w)) if strided else (moved // w, moved % w)
        wrapped = torch.zeros_like(window) if strided else (position < shift).long()
        group = (group * p + window) * 2 + wrapped
        place.append(inside)
    allowed = (group[:, None] == group[None]) & visible[:, None, None, :]
    scores = q @ k.mT * (e**-0.5 if scale is None else scale)
    if table is not None:
        index = torch.zeros_like(allowed[0, 0], dtype=torch.long)
        for inside, largest in zip(place, windows.largest, strict=True):
            index = index * (2 * largest - 1) + inside[:, None] - inside[None] + largest - 1
        index = index.clamp(0, math.prod(2 * w - 1 for w in windows.largest) - 1)  # other windows: masked
        scores = scores + table[index].permute(2, 0, 1)
    y = scores.masked_fill(~allowed, -torch.inf).softmax(-1).nan_to_num(0.0) @ v
    y = y.transpose(1, 2).unflatten(1, padded)
    return y[(slice(None), *(slice(size) for size in grid))]
