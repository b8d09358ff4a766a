"""Clips to tokens: one linear map of each block of frames and pixels."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from models.layers.convolution import Convolution
from models.layout import Layout, Tokens
from models.ops.windows import merge, pad_to_multiple, partition
from models.stems.base import STEMS, Side, Stem


@STEMS.register
class TubeletStem(Stem):
    """(b, c, t, h, w) -> (b, n, d) on a grid of (frames, patch, patch) blocks; zeros beyond the edge.

    With `reach` more than `frames`, a token sees so many frames around its own; hidden tokens count as zeros.
    `side.times` (b, t) s become means over a block. Paper: Arnab et al., 2021, arXiv:2103.15691, sec. 3.2.
    """

    axes, shape = 3, "b c t h w"

    def __init__(
        self,
        in_chans: int,
        dim: int,
        *,
        frames: int = 2,
        patch: int = 8,
        reach: int | None = None,
        norm: bool = False,
    ) -> None:
        super().__init__()
        self.in_chans, self.patch, self.block = in_chans, patch, (frames, patch, patch)
        self.cells = frames * patch**2
        self.values = in_chans * self.cells
        self.project: nn.Module = nn.Linear(self.values, dim)
        self.overlaps = reach is not None
        if reach is not None:
            if reach < frames:
                raise ValueError(f"reach must be at least frames, got reach={reach}, frames={frames}")
            self.project = Convolution(in_chans, dim, axes=3, kernel=(reach, patch, patch), stride=self.block)
        self.norm = nn.LayerNorm(dim) if norm else nn.Identity()

    def forward(self, x: Tensor, side: Side) -> tuple[Tokens, Layout]:
        side.only("tubelet", "mask", "times")
        grid = tuple(-(-size // step) for size, step in zip(x.shape[2:], self.block, strict=True))
        times = side.times
        if times is not None:
            if times.shape != (x.shape[0], x.shape[2]):
                raise ValueError(
                    f"times must be (b, t) = {(x.shape[0], x.shape[2])}, got {tuple(times.shape)}"
                )
            times = F.avg_pool1d(times.float()[:, None], self.block[0], ceil_mode=True)[:, 0]
        return self.norm(self._project(x, side)), Layout(grid=grid, mask=side.mask, times=times)

    def _project(self, x: Tensor, side: Side) -> Tokens:
        cut = self.cut(x)
        if not self.overlaps:
            return self.project(cut)
        if side.mask is not None:
            x = self.join(cut * side.mask[..., None], x.shape[2:])
        pixels = x.contiguous(memory_format=torch.channels_last_3d).flatten(2).mT
        return self.project(pixels, Layout(grid=tuple(x.shape[2:])))

    def cut(self, x: Tensor) -> Float[Tensor, "b n v"]:
        self.check(x)
        if x.shape[1] != self.in_chans:
            raise ValueError(f"x must have {self.in_chans} channels, got shape {tuple(x.shape)}")
        return partition(pad_to_multiple(x.movedim(1, -1), self.block), self.block).mT.flatten(2)

    def join(self, values: Float[Tensor, "b n v"], size: Sequence[int]) -> Tensor:
        padded = [s + -s % step for s, step in zip(size, self.block, strict=True)]
        raster = merge(values.unflatten(2, (-1, self.cells)).mT, self.block, padded)
        t, h, w = size
        return raster[:, :t, :h, :w].movedim(-1, 1)
