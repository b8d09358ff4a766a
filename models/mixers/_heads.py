"""Splitting channels into heads, and plain attention along the last token axis."""

from jaxtyping import Bool, Float
from torch import Tensor, nn

from models.layout import Offsets
from models.ops.attention import attend, open_empty_rows
from models.ops.packed import attend_packed


def count_heads(dim: int, head_dim: int) -> int:
    """How many heads of `head_dim` channels make `dim`."""
    if head_dim < 1 or dim % head_dim:
        raise ValueError(f"head_dim must divide dim, got dim={dim}, head_dim={head_dim}")
    return dim // head_dim


def split_heads(x: Float[Tensor, "b n d"], heads: int) -> Float[Tensor, "b h n e"]:
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def merge_heads(x: Float[Tensor, "b h n e"]) -> Float[Tensor, "b n d"]:
    return x.transpose(1, 2).flatten(-2)


class HeadAttention(nn.Module):
    """Multi-head self-attention of (b, n, d) with projections; the part that several mixers are made of."""

    def __init__(self, dim: int, *, head_dim: int, qkv_bias: bool = True) -> None:
        super().__init__()
        self.heads = count_heads(dim, head_dim)
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.out = nn.Linear(dim, dim)

    def forward(
        self,
        x: Float[Tensor, "b n d"],
        allowed: Bool[Tensor, "b m n"] | None = None,
        *,
        ends: Offsets | None = None,
    ) -> Float[Tensor, "b n d"]:
        q, k, v = (split_heads(t, self.heads) for t in self.qkv(x).chunk(3, dim=-1))
        if ends is not None:
            return self.out(
                merge_heads(attend_packed(q, k, v, ends, None if allowed is None else allowed[:, 0]))
            )
        bias = None if allowed is None else open_empty_rows(allowed)[:, None]  # m is 1 or n
        return self.out(merge_heads(attend(q, k, v, bias)))
