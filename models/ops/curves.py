"""Space-filling curves: one integer per point, near for near points."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def quantise(
    coords: Float[Tensor, "b n k"], mask: Bool[Tensor, "b n"] | None, bits: int
) -> Int[Tensor, "b n k"]:
    """Coordinates as integers in [0, 2^bits), scaled by the longest axis of each cloud's bounding box."""
    if mask is None:
        low, high = coords.amin(1, keepdim=True), coords.amax(1, keepdim=True)
    else:
        hidden = ~mask[..., None]
        low = coords.masked_fill(hidden, torch.inf).amin(1, keepdim=True)
        high = coords.masked_fill(hidden, -torch.inf).amax(1, keepdim=True)
    extent = (high - low).amax(-1, keepdim=True).clamp(min=torch.finfo(coords.dtype).tiny)
    scaled = ((coords - low) / extent).nan_to_num(0.0).clamp(0, 1)
    return (scaled * (2**bits - 1)).round().long()


def morton(cells: Int[Tensor, "*s k"], bits: int) -> Int[Tensor, "*s"]:
    """Interleave the bits of the axes, the first axis highest: Morton's Z order."""
    k = cells.shape[-1]
    if k * bits > 63:
        raise ValueError(f"axes x bits must stay below 64 for int64, got {k} x {bits}")
    place = torch.arange(bits, device=cells.device)
    axis = torch.arange(k, device=cells.device)
    spread = ((cells[..., None] >> place) & 1) << (place * k + (k - 1 - axis)[:, None])
    return spread.sum((-1, -2))


def hilbert(cells: Int[Tensor, "*s k"], bits: int) -> Int[Tensor, "*s"]:
    """Index along Hilbert's curve, whose neighbours always touch.

    Source: Skilling, Programming the Hilbert curve, 2004: undo excess rotations from the highest bit down,
    Gray-decode over the axes, then interleave.
    """
    axes = list(cells.unbind(-1))
    for level in range(bits - 1, 0, -1):
        low = (1 << level) - 1
        for i in range(len(axes)):
            upper = ((axes[i] >> level) & 1).bool()
            swap = torch.where(upper, 0, (axes[0] ^ axes[i]) & low)
            axes[0] = torch.where(upper, axes[0] ^ low, axes[0] ^ swap)
            if i:
                axes[i] = axes[i] ^ swap
    for i in range(1, len(axes)):
        axes[i] = axes[i] ^ axes[i - 1]
    flips = torch.zeros_like(axes[0])
    for level in range(bits - 1, 0, -1):
        flips = torch.where(((axes[-1] >> level) & 1).bool(), flips ^ ((1 << level) - 1), flips)
    return morton(torch.stack([axis ^ flips for axis in axes], -1), bits)


CURVES = {"morton": morton, "hilbert": hilbert}


def curve_order(
    coords: Float[Tensor, "b n k"],
    mask: Bool[Tensor, "b n"] | None,
    *,
    curve: str = "morton",
    bits: int = 10,
    reverse_axes: bool = False,
) -> Int[Tensor, "b n"]:
    """Indices that sort each cloud along a curve; points hidden by the mask come last."""
    cells = quantise(coords, mask, bits)
    codes = CURVES[curve](cells.flip(-1) if reverse_axes else cells, bits)
    if mask is not None:
        codes = codes.masked_fill(~mask, torch.iinfo(torch.int64).max)
    return codes.argsort(dim=1, stable=True)
