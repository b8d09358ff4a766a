"""Attention between channels: every group of channels is a head, and its tokens are the channels."""

from torch import nn

from models.layout import Layout, Tokens
from models.mixers._heads import count_heads, merge_heads, split_heads
from models.mixers.base import MIXERS, TokenMixer, Traits


@MIXERS.register
class ChannelGroupAttention(TokenMixer):
    """y = q softmax(k^T v / sqrt(c))^T in each group of c channels; the matrix is (c, c), whatever n is.

    Shape: (b, n, d) -> (b, n, d), `group` = c.
    Cost:  O(n d c) time, O(d c) state.
    Paper: Ding et al., 2022, arXiv:2204.03645, eq. 4-5. Departs from it: the formula of the paper has
        q^T k and v, its code k^T v and q, as here.
    """

    traits = Traits(permutation_equivariant=True, prefix=True, linear_time=True)

    def __init__(self, dim: int, *, group: int = 32) -> None:
        super().__init__()
        self.groups, self.scale = count_heads(dim, group), group**-0.5
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tokens, layout: Layout) -> Tokens:
        q, k, v = (split_heads(t, self.groups) for t in self.qkv(x).chunk(3, dim=-1))
        if layout.mask is not None:
            k = k * layout.mask[:, None, :, None]
        weights = (self.scale * (k.mT @ v)).softmax(-1)  # (b, groups, c, c)
        return self.out(merge_heads(q @ weights.mT))
