"""Overlapping patches of a raster, each patch one token."""

import torch.nn.functional as F
from torch import Tensor


def soft_split(
    x: Tensor, grid: tuple[int, int], *, kernel: int, stride: int
) -> tuple[Tensor, tuple[int, int]]:
    """(b, n, d) on `grid` -> (b, n', d * kernel^2) on ceil(grid / stride), channels slowest; zeros outside.

    (kernel - stride + 1) // 2 zeros stand before each axis, after it as many as the last patch needs.
    Paper: Yuan et al., 2021, arXiv:2101.11986, sec. 3.1.
    """
    before = (kernel - stride + 1) // 2
    after = tuple(-(-size // stride) for size in grid)
    pads = []
    for size, count in zip(reversed(grid), reversed(after), strict=True):
        pads += [before, max((count - 1) * stride + kernel - size - before, 0)]
    patches = F.unfold(F.pad(x.mT.unflatten(-1, grid), pads), kernel, stride=stride)
    return patches.mT, (after[0], after[1])
