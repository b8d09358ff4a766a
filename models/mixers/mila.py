"""Mamba-inspired linear attention: the shape of a Mamba block, with positions instead of a forget gate."""

import torch.nn.functional as F
from torch import nn

from models.layers.convolution import Convolution
from models.layout import Layout, Tokens, check_grid
from models.mixers._heads import count_heads, merge_heads, split_heads
from models.mixers.base import MIXERS, TokenMixer, Traits
from models.ops.linear import normalised_linear_attention
from models.ops.rotary import raster_angles, turn


@MIXERS.register
class MambaLikeAttention(TokenMixer):
    """y = W [silu(W_a x) * L(silu(dwconv(W_i x)))],  L(u) = A u + dwconv(u).

    A_ij = R_i q_i . R_j k_j / (q_i . sum_j k_j);  q, k = elu(W_qk u) + 1; R turns channel pairs by row and
    column of a token.
    Shape: (b, n, d) -> (b, n, d), n = prod(layout.grid).
    Cost:  O(n e d) time, O(e d) state, heads of e channels.
    Paper: Han et al., 2024, arXiv:2405.16605, eq. 9-10 and fig. 3. Departs from it: nothing.
    """

    traits = Traits(grid_axes=2, linear_time=True)

    def __init__(self, dim: int, *, head_dim: int = 32) -> None:
        super().__init__()
        if dim % 4:
            raise ValueError(f"dim must be a multiple of 4 to turn its channels, got {dim}")
        self.heads = count_heads(dim, head_dim)
        self.inner, self.gate = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.before = Convolution(dim, dim, groups=dim)
        self.qk = nn.Linear(dim, 2 * dim)
        self.local = Convolution(dim, dim, groups=dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tokens, layout: Layout) -> Tokens:
        grid = layout.need_grid(2, "mila")
        check_grid(grid, x, "mila")
        u = F.silu(self.before(self.inner(x), layout))
        q, k = (F.elu(t) + 1 for t in self.qk(u).chunk(2, -1))
        angles = raster_angles(grid, x.shape[-1] // 2, x)  # over all heads: each has its own frequencies
        turned_q, turned_k, v, q, k = (
            split_heads(t, self.heads) for t in (turn(q, angles), turn(k, angles), u, q, k)
        )
        y = merge_heads(normalised_linear_attention(turned_q, turned_k, v, q, k, layout.mask))
        return self.out((y + self.local(u, layout)) * F.silu(self.gate(x)))
