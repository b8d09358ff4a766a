"""Outlook attention: a token alone says how its neighbours mix among themselves, no products of tokens."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from models.layers.convolution import coarser
from models.layout import Layout, Tokens, check_grid
from models.mixers._heads import count_heads
from models.mixers.base import MIXERS, TokenMixer, Traits


@MIXERS.register
class OutlookAttention(TokenMixer):
    """y = sum of the windows' softmax(W_a x / sqrt(e)) v, where they overlap.

    Around every `stride`-th token stands a window of `kernel` x `kernel` values; the mean of its stride x
    stride tokens gives a matrix (kernel^2, kernel^2) for each head, which mixes them; what windows say about
    the same place is summed. Values outside the raster are zero and take part.
    Shape: (b, n, d) -> (b, n, d) on a raster of 2 axes.
    Cost:  O(n (d kernel^4 / stride^2 + d^2)) time.
    Paper: Yuan et al., 2021, arXiv:2106.13112, eq. 3-5. Departs from it: the stride is the authors' code's,
        2 in all its sizes; the paper has 1.
    """

    traits = Traits(grid_axes=2, linear_time=True)

    def __init__(self, dim: int, *, kernel: int = 3, stride: int = 2, head_dim: int = 32) -> None:
        super().__init__()
        if kernel % 2 == 0 or not 0 < stride <= kernel:
            raise ValueError(f"outlook needs an odd kernel and 0 < stride <= kernel, got {kernel}, {stride}")
        self.kernel, self.stride = kernel, stride
        self.heads, self.scale = count_heads(dim, head_dim), head_dim**-0.5
        self.value = nn.Linear(dim, dim, bias=False)
        self.weights = nn.Linear(dim, self.heads * kernel**4)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tokens, layout: Layout) -> Tokens:
        grid = layout.need_grid(2, "outlook")
        check_grid(grid, x, "outlook")
        v = self.value(x)
        if layout.mask is not None:
            v = v.masked_fill(~layout.mask[..., None], 0)
        shape = {"kernel_size": self.kernel, "padding": self.kernel // 2, "stride": self.stride}
        near = F.unfold(v.mT.unflatten(-1, grid), **shape)  # (b, d * k^2, windows), channels slowest
        near = near.unflatten(1, (self.heads, -1, self.kernel**2)).permute(0, 1, 4, 3, 2)  # (b, h, w, k^2, e)
        weights = self._weights(x, layout, grid).softmax(-1)
        y = weights @ near
        if layout.mask is not None:  # a window around nothing says nothing
            real = coarser(layout, (self.stride,) * 2).mask
            assert real is not None
            y = y.masked_fill(~real[:, None, :, None, None], 0)
        y = F.fold(y.permute(0, 1, 4, 3, 2).flatten(1, 3), grid, **shape)
        return self.out(y.flatten(2).mT)

    def _weights(self, x: Tokens, layout: Layout, grid: tuple[int, ...]) -> Tensor:
        """(b, h, windows, k^2, k^2): for each place of a window, how much of every other."""
        if self.stride > 1:
            x = self._mean(x, layout, grid)
        places = self.kernel**2
        return self.scale * self.weights(x).unflatten(-1, (self.heads, places, places)).transpose(1, 2)

    def _mean(self, x: Tokens, layout: Layout, grid: tuple[int, ...]) -> Float[Tensor, "b w d"]:
        """Over the real tokens of each stride x stride cell; cells at the edge are smaller."""
        real = x.new_ones(1, x.shape[1], 1) if layout.mask is None else layout.mask[..., None].to(x.dtype)
        pads = [side for n in reversed(grid) for side in (0, -n % self.stride)]
        both = (F.pad(t.mT.unflatten(-1, grid), pads) for t in (x * real, real))
        total, count = (F.avg_pool2d(t, self.stride) for t in both)
        return (total / count.clamp(min=self.stride**-2)).flatten(2).mT
