"""Shifted windows whose scores are cosines, with a bias that a small network computes from log distances."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from models.layers.convolution import for_axes
from models.layout import Layout, Tokens, check_grid
from models.mixers._heads import count_heads
from models.mixers.base import MIXERS, TokenMixer, Traits
from models.ops.local import Windows, local_attention

STEEPEST = 100.0  # 1 / tau at most, tau >= 0.01
STRONGEST = 16.0  # bias at most


@MIXERS.register
class CosineWindowAttention(TokenMixer):
    """y = softmax(cos(q, k) / tau + 16 sigmoid(MLP(g(i - j)))) v within windows.

    g(d) = sign(d) log8(1 + 8 |d| / w) on each axis. w + 1 is the window, or the raster where that is smaller;
    `trained` names another, so that weights move to other windows: no parameter depends on them.
    Shape: (b, n, d) -> (b, n, d), n = prod(layout.grid).
    Cost:  O(n w^k d) time for windows of w on k axes.
    Paper: Liu et al., 2021, arXiv:2111.09883, eq. 2-4. Departs from it: the distance is divided by w before
        the logarithm, as in the authors' code; tokens added as padding are hidden, unless `hide_padding` is
        false, as in the authors' code.
    """

    traits = Traits(grid_axes=2, linear_time=True)

    def __init__(
        self,
        dim: int,
        *,
        window: int | Sequence[int] = 8,
        trained: int | Sequence[int] | None = None,
        axes: int = 2,
        shifted: bool = False,
        head_dim: int = 32,
        hide_padding: bool = True,
    ) -> None:
        super().__init__()
        self.window = for_axes(window, axes)
        self.trained = None if trained is None else for_axes(trained, axes)
        self.axes, self.shifted, self.hide_padding = axes, shifted, hide_padding
        self.heads = count_heads(dim, head_dim)
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.q_bias, self.v_bias = (nn.Parameter(torch.zeros(dim)) for _ in range(2))  # k has none
        self.log_scale = nn.Parameter(torch.full((self.heads,), math.log(10)))
        self.distance = nn.Sequential(nn.Linear(axes, 512), nn.ReLU(), nn.Linear(512, self.heads, bias=False))
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tokens, layout: Layout) -> Tokens:
        grid = layout.need_grid(self.axes, "cosine_window")
        check_grid(grid, x, "cosine_window")
        bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        qkv = F.linear(x, self.qkv.weight, bias).unflatten(-1, (3, self.heads, -1)).unflatten(1, grid)
        q, k, v = qkv.unbind(-3)
        scale = self.log_scale.clamp(max=math.log(STEEPEST)).exp()
        q, k = F.normalize(q, dim=-1) * scale[:, None], F.normalize(k, dim=-1)
        windows = Windows.of(grid, self.window, shifted=self.shifted)
        pad = None
        if not self.hide_padding:
            beyond = self.v_bias.view(self.heads, -1)
            pad = (torch.zeros_like(beyond), beyond)
        y = local_attention(q, k, v, self._table(grid), windows, mask=layout.mask, pad=pad, scale=1.0)
        return self.out(y.flatten(-2).flatten(1, self.axes))

    def _table(self, grid: Sequence[int]) -> Float[Tensor, "r h"]:
        """The bias for every offset inside `window`."""
        like = self.log_scale
        fit = tuple(min(w, size) for w, size in zip(self.window, grid, strict=True))
        logs = []
        for w, whole in zip(self.window, self.trained or fit, strict=True):
            offset = 8 * torch.arange(1 - w, w, device=like.device, dtype=like.dtype) / max(whole - 1, 1)
            logs.append(offset.sign() * torch.log2(1 + offset.abs()) / math.log2(8))
        offsets = torch.stack(torch.meshgrid(*logs, indexing="ij"), -1).flatten(0, -2)
        return STRONGEST * self.distance(offsets).sigmoid()
