"""Attention through a few agents, linear in the number of tokens."""

from jaxtyping import Float
from torch import Tensor

from models.ops.attention import attend


def agent_attention(
    q: Float[Tensor, "b h n e"],
    agents: Float[Tensor, "b h a e"],
    k: Float[Tensor, "b h m e"],
    v: Float[Tensor, "b h m f"],
    out_bias: Tensor | None = None,
    in_bias: Tensor | None = None,
) -> Float[Tensor, "b h n f"]:
    """softmax(q A^T / sqrt(e) + out_bias) [softmax(A k^T / sqrt(e) + in_bias) v].

    Agents gather from all tokens, tokens from all agents: an n x m attention of rank at most a, O((n + m) a).
    Source: Han et al., 2023, arXiv:2312.08874, eq. 5-6.
    """
    return attend(q, agents, attend(agents, k, v, in_bias), out_bias)
