"""Convolution over all axes of a raster by Fourier transform: circular, or with zeros beyond the edge."""

from collections.abc import Sequence

import torch
from jaxtyping import Complex, Float
from torch import Tensor


def filter_circular(x: Float[Tensor, "b *grid d"], spectrum: Complex[Tensor, "*half d"]) -> Tensor:
    """irfftn(rfftn(x) * spectrum): a circular convolution of every channel with irfftn(spectrum).

    `spectrum` has size // 2 + 1 places on the last axis of the grid, all on the others.
    """
    axes, size = tuple(range(1, x.ndim - 1)), x.shape[1:-1]
    y = torch.fft.rfftn(_wide(x), dim=axes) * spectrum
    return torch.fft.irfftn(y, s=size, dim=axes).to(x.dtype)


def resize_kernel(spectrum: Complex[Tensor, "*half d"], size: Sequence[int], to: Sequence[int]) -> Tensor:
    """The spectrum, for a grid of `to`, of the same circular kernel: cut at the far end, or zeros there."""
    axes = tuple(range(len(size)))
    kernel = torch.fft.irfftn(spectrum, s=tuple(size), dim=axes)
    for axis, (old, new) in enumerate(zip(size, to, strict=True)):
        least = min(old, new)
        ahead, behind = (least + 1) // 2, least // 2  # offsets 0, 1, ... and ..., -2, -1
        parts = [kernel.narrow(axis, 0, ahead), kernel.narrow(axis, old - behind, behind)]
        if new > old:
            shape = list(kernel.shape)
            shape[axis] = new - old
            parts.insert(1, kernel.new_zeros(shape))
        kernel = torch.cat(parts, axis)
    return torch.fft.rfftn(kernel, dim=axes)


def convolve(x: Tensor, kernel: Tensor, *, axes: int) -> Tensor:
    """y_i = sum_j kernel[i - j + n - 1] x_j along `axes` axes of n places: zeros beyond the edge.

    x is (b, *grid, *s), kernel (*offsets, *s) with the offsets 1 - n .. n - 1 of every axis; s may broadcast.
    A Toeplitz matrix times x, made circulant: O(n log n) instead of O(n^2).
    """
    grid, places = x.shape[1 : 1 + axes], tuple(range(1, 1 + axes))
    if tuple(kernel.shape[:axes]) != tuple(2 * n - 1 for n in grid):
        got = tuple(kernel.shape[:axes])
        raise ValueError(f"a kernel for {tuple(grid)} has 2 n - 1 offsets an axis, got {got}")
    size = [fast_length(2 * n - 1) for n in grid]  # what wraps around lands on places that are cut off
    spectrum = torch.fft.rfftn(_wide(kernel), s=size, dim=tuple(range(axes)))
    y = torch.fft.irfftn(torch.fft.rfftn(_wide(x), s=size, dim=places) * spectrum, s=size, dim=places)
    for axis, n in zip(places, grid, strict=True):
        y = y.narrow(axis, n - 1, n)  # place 0 stands for offset 1 - n
    return y.to(x.dtype)


def fast_length(n: int) -> int:
    """The least 2^a 3^b 5^c from n on: lengths that transforms do fast."""
    while True:
        rest = n
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return n
        n += 1


def _wide(x: Tensor) -> Tensor:
    """At least single precision: transforms of half precision lose too much, and take few sizes."""
    return x if x.dtype == torch.float64 else x.float()
