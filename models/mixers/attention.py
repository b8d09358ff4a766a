"""Global attention: every token sees every other."""

from models.layout import Layout, Tokens
from models.mixers._heads import HeadAttention
from models.mixers.base import MIXERS, TokenMixer, Traits


@MIXERS.register
class GlobalAttention(TokenMixer):
    """y_i = sum_j softmax_j(q_i . k_j / sqrt(e)) v_j over the tokens of the same sequence.

    Shape: (b, n, d) -> (b, n, d). With `layout.cu_seqlens` each packed sequence sees only itself.
    Cost:  O(n^2 d) time, O(n) state.
    Paper: Vaswani et al., 2017, arXiv:1706.03762, eq. 1. Departs from it: nothing.
    """

    traits = Traits(permutation_equivariant=True, prefix=True, packed=True)

    def __init__(self, dim: int, *, head_dim: int = 32, qkv_bias: bool = True) -> None:
        super().__init__()
        self.attention = HeadAttention(dim, head_dim=head_dim, qkv_bias=qkv_bias)

    def forward(self, x: Tokens, layout: Layout) -> Tokens:
        keys = None if layout.mask is None else layout.mask[:, None]
        return self.attention(x, keys, ends=layout.cu_seqlens)
