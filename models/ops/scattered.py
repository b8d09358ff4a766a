"""Linear attention inside windows of any size, tokens in one flat list: none is padded to another."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

EPS = 1e-6


def scattered_linear(
    q: Float[Tensor, "n h e"],
    k: Float[Tensor, "n h e"],
    v: Float[Tensor, "n h f"],
    window: Int[Tensor, " n"],
    windows: int,
) -> Float[Tensor, "n h f"]:
    """y_i = q_i S_w / (q_i z_w + eps), S_w = sum k_j^T v_j and z_w = sum k_j over the window of i; q, k >= 0.

    Tokens of a window are laid into blocks of e, so sums are batched products, and windows are sums of
    blocks. O(n d e) time; O(n d + windows d e) memory, in any distribution of sizes, empty windows too.
    Source: He et al., 2024, arXiv:2401.00912, eq. 4-6.
    """
    heads, size = q.shape[1:]
    slots, owner = blocks(window, windows, size)
    count = len(owner)

    def lay(x: Tensor) -> Tensor:  # (n, h, f) -> (blocks, h, e, f)
        room = x.new_zeros(count * size, *x.shape[1:])
        return room.index_copy(0, slots, x).unflatten(0, (count, size)).transpose(1, 2)

    q_laid, k_laid, v_laid = lay(q), lay(k), lay(v)
    sums = k.new_zeros(windows, heads, size, v.shape[-1]).index_add(0, owner, k_laid.mT @ v_laid)
    total = k.new_zeros(windows, heads, size).index_add(0, owner, k_laid.sum(2))
    weight = (q_laid @ total[owner][..., None]) + EPS
    y = (q_laid @ sums[owner]) / weight
    return y.transpose(1, 2).flatten(0, 1).index_select(0, slots)


def blocks(window: Int[Tensor, " n"], windows: int, size: int) -> tuple[Int[Tensor, " n"], Int[Tensor, " m"]]:
    """Blocks of `size` slots for tokens of one window only: each token's slot, each block's window.

    There are n / size + windows of them, whatever the windows hold, so shapes do not depend on the data.
    """
    n = len(window)
    order = window.argsort(stable=True)
    held = window.new_zeros(windows).index_add(0, window, torch.ones_like(window))
    needed = (held + size - 1) // size
    ends = needed.cumsum(0)
    rank = torch.empty_like(order).index_copy(0, order, torch.arange(n, device=window.device))
    within = rank - (held.cumsum(0) - held)[window]
    slots = (ends - needed)[window] * size + within
    places = torch.arange(-(-n // size) + windows, device=window.device)
    return slots, torch.searchsorted(ends, places, right=True).clamp(max=windows - 1)
