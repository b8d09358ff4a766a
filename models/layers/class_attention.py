"""A block in which only the class token changes: it reads all others and itself."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from models.layout import Mask, Tokens
from models.ops.attention import attend


class ClassAttentionBlock(nn.Module):
    """c += W softmax(q(n) k([n, m])^T / sqrt(e)) v([n, m]), n and m normed; then c += mlp(norm(c)).

    c: (b, 1, d), x: (b, n, d); tokens that `mask` hides are not read.
    Paper: Touvron et al., 2021, arXiv:2103.17239, sec. 3.
    """

    def __init__(self, dim: int, *, head_dim: int, ratio: float, bias: bool = True) -> None:
        super().__init__()
        if dim % head_dim:
            raise ValueError(f"head_dim must divide dim, got dim={dim}, head_dim={head_dim}")
        self.heads = dim // head_dim
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.q, self.kv = nn.Linear(dim, dim, bias=bias), nn.Linear(dim, 2 * dim, bias=bias)
        self.out = nn.Linear(dim, dim)
        hidden = int(dim * ratio)
        self.up, self.act, self.down = nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim)

    def forward(self, cls: Float[Tensor, "b 1 d"], x: Tokens, mask: Mask | None) -> Float[Tensor, "b 1 d"]:
        both = self.norm1(torch.cat([cls, x], 1))
        k, v = self.kv(both).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q = self.q(both[:, :1]).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        seen = None if mask is None else F.pad(mask, (1, 0), value=True)[:, None, None]
        cls = cls + self.out(attend(q, k, v, seen).transpose(1, 2).flatten(2))
        return cls + self.down(self.act(self.up(self.norm2(cls))))
