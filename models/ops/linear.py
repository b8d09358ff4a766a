"""Attention without softmax, in time linear in the number of tokens."""

from jaxtyping import Bool, Float
from torch import Tensor


def normalised_linear_attention(
    q: Float[Tensor, "b h n e"],
    k: Float[Tensor, "b h n e"],
    v: Float[Tensor, "b h n f"],
    q_norm: Float[Tensor, "b h n e"],
    k_norm: Float[Tensor, "b h n e"],
    mask: Bool[Tensor, "b n"] | None = None,
    eps: float = 1e-6,
) -> Float[Tensor, "b h n f"]:
    """y_i = sum_j (q_i . k_j) v_j / (sum_j q'_i . k'_j), the sums taken before q: O(n e f).

    q' and k', positive, give the weights their scale: the same as q and k, or as they were before a rotation.
    Sums are means over the keys that `mask` keeps, so that `eps` weighs the same whatever n.
    """
    if mask is None:
        count: Tensor | int = k.shape[2]
    else:
        real = mask[:, None, :, None].to(k.dtype)
        k, k_norm, count = k * real, k_norm * real, real.sum(2, keepdim=True).clamp(min=1)
    scale = q_norm @ (k_norm.sum(2, keepdim=True) / count).mT + eps
    return q @ (k.mT @ (v / count)) / scale
