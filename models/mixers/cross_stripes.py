"""Cross-shaped windows: half of the heads see vertical stripes of the raster, half horizontal ones."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layout import Layout, Tokens, check_grid
from models.mixers._heads import count_heads
from models.mixers.base import MIXERS, TokenMixer, Traits
from models.ops.local import Windows, local_attention
from models.ops.windows import merge, pad_to_multiple, partition


@MIXERS.register
class CrossStripesAttention(TokenMixer):
    """y_h = softmax(q_h k_h^T / sqrt(e)) v_h + dwconv(v_h) in stripes; out of all heads side by side.

    The first half of the heads has stripes of (h, `stripe`), the second (`stripe`, w); None means the whole
    raster for all. The convolution, 3 x 3, sees zeros beyond its stripe.
    Shape: (b, n, d) -> (b, n, d) on a raster of 2 axes.
    Cost:  O(n (h + w) stripe d) time.
    Paper: Dong et al., 2021, arXiv:2107.00652, eq. 2-5. Departs from it: stripes that the raster does not
        fill see no padding, the authors' code refuses such sizes.
    """

    traits = Traits(grid_axes=2)

    def __init__(self, dim: int, *, stripe: int | None = 7, head_dim: int = 32) -> None:
        super().__init__()
        self.heads, self.stripe = count_heads(dim, head_dim), stripe
        if self.heads % 2 or (stripe is not None and stripe < 1):
            raise ValueError(
                f"cross_stripes needs an even number of heads, got {self.heads}, stripe={stripe}"
            )
        self.qkv = nn.Linear(dim, 3 * dim)
        self.near = nn.Conv2d(dim, dim, 3, groups=dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tokens, layout: Layout) -> Tokens:
        grid = layout.need_grid(2, "cross_stripes")
        check_grid(grid, x, "cross_stripes")
        (h, w), half, dim = grid, self.heads // 2, x.shape[-1]
        size = (h if self.stripe is None else self.stripe, w if self.stripe is None else self.stripe)
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, -1)).unflatten(1, grid)
        parts = []
        for i, stripe in enumerate(((h, min(size[1], w)), (min(size[0], h), w))):
            q, k, v = qkv[..., i * half : (i + 1) * half, :].unbind(-3)
            y = local_attention(q, k, v, None, Windows.of(grid, stripe), mask=layout.mask).flatten(-2)
            channels = slice(i * dim // 2, (i + 1) * dim // 2)
            parts.append(y + self._near(v.flatten(-2), layout, stripe, channels))
        return self.out(torch.cat(parts, -1).flatten(1, 2))

    def _near(self, v: Tensor, layout: Layout, stripe: tuple[int, int], channels: slice) -> Tensor:
        """The convolution of some channels of v (b, h, w, d / 2), each stripe an image of its own."""
        grid = v.shape[1:3]
        if layout.mask is not None:
            v = v.masked_fill(~layout.mask.unflatten(1, grid)[..., None], 0)
        raster = pad_to_multiple(v, stripe)
        stripes = partition(raster, stripe)  # (b, stripes, tokens, d / 2)
        images = stripes.flatten(0, 1).mT.unflatten(-1, stripe)
        weight, bias = self.near.weight[channels], self.near.bias
        assert bias is not None
        y = F.conv2d(images, weight, bias[channels], padding=1, groups=weight.shape[0])
        y = y.flatten(2).mT.unflatten(0, stripes.shape[:2])
        return merge(y, stripe, raster.shape[1:3])[:, : grid[0], : grid[1]]
