"""Scaled dot-product attention with an additive bias or a mask, guarded against known kernel faults."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from models.ops.dispatch import Backend, Facts, Op

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
    return ATTENTION(q, k, v, bias)


def facts(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Facts:
    """What the choice of a backend depends on."""
    training, added = torch.is_grad_enabled(), bias is not None and bias.dtype != torch.bool
    return Facts(
        device=q.device.type,
        dtype=q.dtype,
        head_dim=q.shape[-1],
        queries=q.shape[-2],
        keys=k.shape[-2],
        grad=training and (q.requires_grad or k.requires_grad or v.requires_grad),
        bias=added,
        bias_grad=training and added and bias is not None and bias.requires_grad,
        masked=bias is not None,
    )


def by_sdpa(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """PyTorch's own choice."""
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)


def by_efficient(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """PyTorch without cuDNN."""
    with sdpa_kernel([SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)


def by_matmul(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """The formula as it stands."""
    scores = (q * q.shape[-1] ** -0.5) @ k.mT
    if bias is not None:
        scores = scores + bias if bias.dtype != torch.bool else scores.masked_fill(~bias, -torch.inf)
    return scores.softmax(-1) @ v


def needs_no_cudnn(facts: Facts) -> str | None:
    """pytorch#196678: cuDNN's backward gives NaN for masked attention at these lengths."""
    if facts.device == "cuda" and facts.masked and facts.keys % 128 == 64:
        return None
    return "only needed on CUDA, masked, at 64 keys above a multiple of 128"


def trains_a_bias_on_cpu(facts: Facts) -> str | None:
    """There SDPA takes its slow path, 0.7 to 1.0 of the formula's speed."""
    return "a bias that is trained sends it to its slow path on a CPU" if slow_sdpa(facts) else None


def slow_sdpa(facts: Facts) -> bool:
    return facts.device == "cpu" and facts.bias_grad


ATTENTION = Op(
    "attention",
    facts,
    [
        Backend("efficient", by_efficient, needs_no_cudnn),
        Backend("sdpa", by_sdpa, trains_a_bias_on_cpu),
        Backend("matmul", by_matmul, lambda facts: None),
    ],
)


def open_empty_rows(allowed: Bool[Tensor, "*s n"]) -> Bool[Tensor, "*s n"]:
    """Let a query that may see nothing see everything: padding then stays finite instead of NaN."""
    return allowed | ~allowed.any(-1, keepdim=True)
