"""Global attention with a depthwise convolution of its values beside it."""

from torch import nn

from models.layers.convolution import Convolution
from models.layout import Layout, Tokens, check_grid
from models.mixers._heads import count_heads, merge_heads, split_heads
from models.mixers.base import MIXERS, TokenMixer, Traits
from models.ops.attention import attend, open_empty_rows


@MIXERS.register
class EnhancedAttention(TokenMixer):
    """y = softmax(q k^T / sqrt(e)) v + dwconv(v), over all tokens of the raster; `of_input`: + dwconv(x).

    Shape: (b, n, d) -> (b, n, d), n = prod(layout.grid).
    Cost:  O(n^2 d) time, O(n) state.
    Paper: Ren et al., 2021, arXiv:2111.15193, eq. 3-4, and Dong et al., 2021, arXiv:2107.00652, eq. 5.
        Departs from it: all tokens are keys. `of_input` is what the code of BiFormer does.
    """

    traits = Traits(grid_axes=2)

    def __init__(
        self, dim: int, *, head_dim: int = 32, kernel: int = 5, bias: bool = True, of_input: bool = False
    ) -> None:
        super().__init__()
        self.of_input = of_input
        self.heads = count_heads(dim, head_dim)
        self.qkv = nn.Linear(dim, 3 * dim, bias=bias)
        self.local = Convolution(dim, dim, kernel=kernel, groups=dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tokens, layout: Layout) -> Tokens:
        check_grid(layout.need_grid(2, "enhanced"), x, "enhanced")
        qkv = self.qkv(x).chunk(3, -1)
        q, k, v = (split_heads(t, self.heads) for t in qkv)
        keys = None if layout.mask is None else open_empty_rows(layout.mask)[:, None, None]
        return self.out(
            merge_heads(attend(q, k, v, keys)) + self.local(x if self.of_input else qkv[2], layout)
        )
