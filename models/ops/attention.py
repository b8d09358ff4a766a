"""Scaled dot-product attention with an additive bias or a mask, guarded against known kernel faults."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

MAX_BATCH = 65535  # CUDA kernels put the batch on a grid axis of 16 bits


def attend(
    q: Float[Tensor, "b h n e"],
    k: Float[Tensor, "b h m e"],
    v: Float[Tensor, "b h m f"],
    bias: Tensor | None = None,
) -> Float[Tensor, "b h n f"]:
    """softmax(q k^T / sqrt(e) + bias) v; a boolean `bias` is a mask, true where attention is allowed."""
    if q.is_cuda and q.shape[0] > MAX_BATCH:
        whole = None if bias is None else bias.expand(q.shape[0], *bias.shape[1:])
        cuts = [slice(i, i + MAX_BATCH) for i in range(0, q.shape[0], MAX_BATCH)]
        return torch.cat([attend(q[c], k[c], v[c], None if whole is None else whole[c]) for c in cuts])
    if bias is not None and q.is_cuda and k.shape[-2] % 128 == 64:
        # pytorch#196678: cuDNN's backward gives NaN for masked attention at these lengths
        with sdpa_kernel([SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]):
            return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)


def open_empty_rows(allowed: Bool[Tensor, "*s n"]) -> Bool[Tensor, "*s n"]:
    """Let a query that may see nothing see everything: padding then stays finite instead of NaN."""
    return allowed | ~allowed.any(-1, keepdim=True)
