"""Attention inside windows of a raster of 1 to 3 axes: shifted, strided, with a learned bias by offset."""

import math

import torch
from torch import Tensor

from models.ops.dispatch import Backend, Facts, Op
from models.ops.local.triton import refuses as triton_refuses
from models.ops.local.triton import run as run_triton
from models.ops.local.windows import Windows, by_windows

__all__ = ["LOCAL", "Windows", "local_attention"]


def local_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    table: Tensor | None,
    windows: Windows,
    *,
    mask: Tensor | None = None,
    pad: tuple[Tensor, Tensor] | None = None,
    scale: float | None = None,
) -> Tensor:
    """y_i = sum_j softmax_j(scale q_i . k_j + table[place_i - place_j]) v_j over the tokens of i's window.

    q, k, v: (b, *grid, h, e), any strides. table: (prod(2 largest - 1), h), rows row-major in the offsets.
    mask: (b, n), true for real tokens. Windows that the raster does not fill are hidden where it ends, unless
    `pad` gives the (h, e) key and value of what lies beyond. scale: 1 / sqrt(e) unless given.
    Returns (b, *grid, h, e). A query that sees nothing gets something finite.
    """
    return LOCAL(q, k, v, table, windows, mask=mask, pad=pad, scale=scale)


def facts(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    table: Tensor | None,
    windows: Windows,
    *,
    mask: Tensor | None = None,
    pad: tuple[Tensor, Tensor] | None = None,
    scale: float | None = None,
) -> Facts:
    """What the choice of a backend depends on."""
    training = torch.is_grad_enabled()
    n = math.prod(windows.size)
    return Facts(
        device=q.device.type,
        dtype=q.dtype,
        head_dim=q.shape[-1],
        queries=n,
        keys=n,
        grad=training and (q.requires_grad or k.requires_grad or v.requires_grad),
        bias=table is not None,
        bias_grad=training and table is not None and table.requires_grad,
        masked=mask is not None,
        padded=pad is not None,
    )


LOCAL = Op(
    "local_attention",
    facts,
    [Backend("triton", run_triton, triton_refuses), Backend("windows", by_windows, lambda facts: None)],
)
