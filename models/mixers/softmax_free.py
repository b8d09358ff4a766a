"""Softmax-free attention: a Gaussian kernel of queries with themselves, seen through pooled landmarks."""

import torch
from torch import Tensor, nn

from models.layers.convolution import Convolution, coarser
from models.layout import Layout, Tokens, check_grid
from models.mixers._heads import count_heads, merge_heads, split_heads
from models.mixers.base import MIXERS, TokenMixer, Traits
from models.ops.softmax_free import softmax_free_attention


@MIXERS.register
class SoftmaxFreeAttention(TokenMixer):
    """y = W [S v + conv(v)],  S_ij ~ exp(-|q_i - q_j|^2 / (2 sqrt(e))) by landmarks; keys are the queries.

    Landmarks are gelu(norm(c(q))), c a convolution of `ratio` with that stride, one for all heads; conv has
    one filter of `kernel` for each head. `normalised` scales the inverse from both sides by row sums.
    Shape: (b, n, d) -> (b, n, d), n = prod(layout.grid).
    Cost:  O(n m d + m^3) time for m = n / ratio^2 landmarks.
    Paper: Lu et al., 2021, arXiv:2110.11945, eq. 4-10; normalised, 2022, arXiv:2207.03341, eq. 20.
        Departs from it: nothing; the inverse has the ridge of its code.
    """

    traits = Traits(grid_axes=2, masks="hides")

    def __init__(
        self,
        dim: int,
        *,
        ratio: int = 2,
        kernel: int = 3,
        head_dim: int = 32,
        normalised: bool = True,
        ridge: float = 0.01,
    ) -> None:
        super().__init__()
        self.heads = count_heads(dim, head_dim)
        self.normalised, self.ridge = normalised, ridge
        self.q, self.v, self.out = nn.Linear(dim, dim), nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.pool = Convolution(
            head_dim, head_dim, kernel=ratio, stride=ratio, bias=False, norm="layer", act="gelu"
        )
        self.local = Convolution(self.heads, self.heads, kernel=kernel, groups=self.heads, bias=False)

    def forward(self, x: Tokens, layout: Layout) -> Tokens:
        check_grid(layout.need_grid(2, "softmax-free"), x, "softmax-free")
        q, v = split_heads(self.q(x), self.heads), split_heads(self.v(x), self.heads)
        q = q * q.shape[-1] ** -0.25
        if layout.mask is not None:
            v = v * layout.mask[:, None, :, None]
        y = softmax_free_attention(
            q, self.landmarks(q, layout), v, normalised=self.normalised, ridge=self.ridge
        )
        return self.out(merge_heads(y + self._local(v, layout)))

    def landmarks(self, q: Tensor, layout: Layout) -> Tensor:
        """(b, h, n, e) -> (b, h, m, e); those of cells without a real token are far from everything."""
        pooled = self.pool(q.flatten(0, 1), repeat(layout, self.heads)).unflatten(0, q.shape[:2])
        if layout.mask is None:
            return pooled
        mask = coarser(layout, self.pool.stride).mask
        assert mask is not None
        far = 1e3 * (1 + torch.arange(mask.shape[1], device=q.device, dtype=q.dtype))[:, None]
        return torch.where(mask[:, None, :, None], pooled, far)

    def _local(self, v: Tensor, layout: Layout) -> Tensor:
        maps = v.permute(0, 3, 2, 1).flatten(0, 1)  # (b e, n, h)
        y = self.local(maps, repeat(layout, v.shape[-1]))
        return y.unflatten(0, (len(v), -1)).permute(0, 3, 2, 1)


def repeat(layout: Layout, times: int) -> Layout:
    """The layout of every row, `times` times."""
    mask = layout.mask
    return layout.with_(mask=None if mask is None else mask.repeat_interleave(times, 0))
