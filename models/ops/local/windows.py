"""Local attention by cutting the raster into windows: a batch of small dense attentions."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.ops.attention import attend, open_empty_rows
from models.ops.windows import merge, pad_to_multiple, partition, regions, relative_index


@dataclass(frozen=True)
class Windows:
    """Which tokens of a raster of 1 to 3 axes see each other: one entry an axis in every field.

    size: tokens of a window. shift: how far windows are moved; tokens that wrap around see only each other.
    strided: tokens of a window lie padded / size apart instead of side by side (a grid of the whole raster).
    largest: window that the bias table was made for, (2 w - 1) offsets an axis.
    """

    size: tuple[int, ...]
    shift: tuple[int, ...]
    strided: tuple[bool, ...]
    largest: tuple[int, ...]

    def __post_init__(self) -> None:
        lengths = {len(self.size), len(self.shift), len(self.strided), len(self.largest)}
        if len(lengths) > 1 or not 1 <= len(self.size) <= 3:
            raise ValueError(f"windows need 1 to 3 axes, the same in every field, got {self}")
        for size, shift, strided, largest in zip(
            self.size, self.shift, self.strided, self.largest, strict=True
        ):
            if not 0 <= shift < size <= largest or (strided and shift):
                raise ValueError(
                    f"windows need 0 <= shift < size <= largest, and no shift if strided: {self}"
                )

    @staticmethod
    def of(
        grid: Sequence[int], size: Sequence[int], *, shifted: bool = False, strided: bool = False
    ) -> "Windows":
        """Windows of `size`; an axis that is no longer than its window is one window, and not shifted."""
        fit = tuple(min(w, n) for w, n in zip(size, grid, strict=True))
        shift = tuple(w // 2 if shifted and n > w else 0 for w, n in zip(size, grid, strict=True))
        return Windows(fit, shift, (strided,) * len(fit), tuple(size))

    def padded(self, grid: Sequence[int]) -> tuple[int, ...]:
        """The raster's size, up to multiples of the window."""
        return tuple(-(-n // w) * w for n, w in zip(grid, self.size, strict=True))


def by_windows(
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
    """See `local_attention`. Copies of q, k, v and of the output in window order; (windows, n, n) masks."""
    *grid, heads, e = q.shape[1:]
    padded = windows.padded(grid)
    if scale is not None:
        q = q * (scale * e**0.5)  # what `attend` divides by
    q, k, v = (pad_to_multiple(t.flatten(-2), windows.size) for t in (q, k, v))
    if pad is not None and padded != tuple(grid):
        outside = ~pad_to_multiple(q.new_ones(1, *grid, 1, dtype=torch.bool), windows.size)
        k, v = (torch.where(outside, p.flatten(), t) for t, p in zip((k, v), pad, strict=True))
    q, k, v = (cut(t, windows, padded).unflatten(-1, (heads, e)).transpose(2, 3) for t in (q, k, v))
    bias = bias_of(q, table, windows, grid, mask=mask, hide=pad is None)  # (1 or b, 1 or windows, h, n, n)
    if bias is None or bias.shape[1] == 1:  # one bias for every window: windows side by side in the batch
        shared = None if bias is None else bias[:, 0]
        y = attend(q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1), shared).unflatten(0, q.shape[:2])
    else:  # windows differ, samples do not: windows beside the heads, so that the bias is held once
        y = attend(q.flatten(1, 2), k.flatten(1, 2), v.flatten(1, 2), bias.flatten(1, 2))
        y = y.unflatten(1, q.shape[1:3])
    y = paste(y.transpose(2, 3).flatten(-2), windows, padded)
    return y[(slice(None), *(slice(n) for n in grid))].unflatten(-1, (heads, e))


def cut(raster: Tensor, windows: Windows, padded: Sequence[int]) -> Tensor:
    """(b, *padded, d) -> (b, windows, n, d)."""
    axes = tuple(range(1, len(padded) + 1))
    if any(windows.strided):
        raster = partition(raster, steps(windows, padded))  # tokens of one step side by side
        return raster.transpose(1, 2)
    if any(windows.shift):
        raster = raster.roll([-s for s in windows.shift], dims=axes)
    return partition(raster, windows.size)


def paste(y: Tensor, windows: Windows, padded: Sequence[int]) -> Tensor:
    """(b, windows, n, d) -> (b, *padded, d); undoes `cut`."""
    if any(windows.strided):
        return merge(y.transpose(1, 2), steps(windows, padded), padded)
    y = merge(y, windows.size, padded)
    return y.roll(windows.shift, dims=tuple(range(1, len(padded) + 1))) if any(windows.shift) else y


def steps(windows: Windows, padded: Sequence[int]) -> tuple[int, ...]:
    """How far tokens of a strided window lie apart: the size of the other partition, MaxViT's transpose."""
    if not all(windows.strided):
        raise ValueError(f"strided axes beside contiguous ones are left to other backends, got {windows}")
    return tuple(p // w for p, w in zip(padded, windows.size, strict=True))


def bias_of(
    q: Tensor,
    table: Tensor | None,
    windows: Windows,
    grid: Sequence[int],
    *,
    mask: Tensor | None,
    hide: bool,
) -> Tensor | None:
    """Table, shift and masks as one thing to add to the scores: (1 or b, 1 or windows, h, n, n)."""
    heads, n = q.shape[2:4]
    padded, allowed = windows.padded(grid), None
    if any(windows.shift):
        region = regions(padded, windows.size, windows.shift, q.device)
        allowed = region[..., :, None] == region[..., None, :]  # (1, windows, n, n)
    if mask is not None or (hide and padded != tuple(grid)):
        real = q.new_ones(1, *grid, 1, dtype=torch.bool)
        if mask is not None:
            real = mask.unflatten(1, grid)[..., None]
        # unless hidden, the raster's own padding counts as tokens; what the caller hides does not
        real = pad_to_multiple(real, windows.size) if hide else ~pad_to_multiple(~real, windows.size)
        keys = cut(real, windows, padded).mT  # (b, windows, 1, n)
        allowed = keys if allowed is None else allowed & keys
    bias = None
    if table is not None:
        index = relative_index(windows.size, windows.largest, q.device)
        bias = table[index].permute(2, 0, 1)[None, None].to(q.dtype)  # (1, 1, h, n, n)
    if allowed is None:
        return bias
    hidden = ~open_empty_rows(allowed)[:, :, None].expand(-1, -1, heads, n, n)
    if bias is None:
        return q.new_zeros(()).expand(hidden.shape).masked_fill(hidden, -torch.inf)
    return bias.masked_fill(hidden, -torch.inf)
