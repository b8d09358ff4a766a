"""Cut a raster of 1 to 3 axes into equal windows, and back."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor


def pad_to_multiple(x: Tensor, window: Sequence[int]) -> Tensor:
    """(b, *grid, d) -> the same with zeros after the end of every axis, up to a multiple of the window."""
    pads = [-size % w for size, w in zip(x.shape[1:-1], window, strict=True)]
    if not any(pads):
        return x
    return F.pad(x, [0, 0] + [side for pad in reversed(pads) for side in (0, pad)])


def partition(x: Tensor, window: Sequence[int]) -> Tensor:
    """(b, *grid, d) -> (b, windows, prod(window), d), both in row-major order."""
    k = len(window)
    split = [side for size, w in zip(x.shape[1:-1], window, strict=True) for side in (size // w, w)]
    x = x.reshape(x.shape[0], *split, x.shape[-1])
    x = x.permute(0, *range(1, 2 * k, 2), *range(2, 2 * k + 1, 2), 2 * k + 1)
    return x.flatten(1, k).flatten(2, k + 1)


def merge(x: Tensor, window: Sequence[int], grid: Sequence[int]) -> Tensor:
    """(b, windows, prod(window), d) -> (b, *grid, d); undoes `partition`."""
    k = len(window)
    counts = [size // w for size, w in zip(grid, window, strict=True)]
    x = x.reshape(x.shape[0], *counts, *window, x.shape[-1])
    x = x.permute(0, *(i for axis in range(k) for i in (1 + axis, 1 + k + axis)), 2 * k + 1)
    return x.reshape(x.shape[0], *grid, x.shape[-1])


def relative_index(window: Sequence[int], largest: Sequence[int], device: torch.device) -> Int[Tensor, "n n"]:
    """Row of the bias table for each pair of a window: offset per axis, counted for windows of `largest`."""
    axes = [torch.arange(w, device=device) for w in window]
    places = torch.stack(torch.meshgrid(*axes, indexing="ij")).flatten(1)  # (k, n)
    offsets = places[:, :, None] - places[:, None, :]
    index = torch.zeros(math.prod(window), math.prod(window), dtype=torch.long, device=device)
    for offset, w in zip(offsets, largest, strict=True):
        index = index * (2 * w - 1) + offset + w - 1
    return index


def regions(
    padded: Sequence[int], window: Sequence[int], shift: Sequence[int], device: torch.device
) -> Int[Tensor, "1 windows n"]:
    """A number per token of a rolled raster: tokens that were neighbours before the roll share it."""
    label = torch.zeros(1, *padded, 1, dtype=torch.long, device=device)
    for axis, (size, w, s) in enumerate(zip(padded, window, shift, strict=True)):
        place = torch.arange(size, device=device)
        part = (place >= size - w).long() + (place >= size - s).long() if s else torch.zeros_like(place)
        label = label * 3 + part.view(-1, *[1] * (len(padded) - axis))
    return partition(label, window).squeeze(-1)
