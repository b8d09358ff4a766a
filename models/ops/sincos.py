"""Sines and cosines of positions, without parameters."""

import torch
from jaxtyping import Float
from torch import Tensor

TEMPERATURE = 10000.0


def waves(position: Float[Tensor, "*s"], dim: int) -> Float[Tensor, "*s d"]:
    """Half of dim sines, then as many cosines, of a position at frequencies from 1 down to 1 / 10000.

    Source: Vaswani et al., 2017, arXiv:1706.03762, sec. 3.5, sines and cosines side by side.
    """
    step = torch.arange(dim // 2, device=position.device, dtype=torch.float32) / (dim // 2)
    angle = position[..., None] * TEMPERATURE**-step
    return torch.cat([angle.sin(), angle.cos()], -1)


def plane_waves(h: int, w: int, dim: int, *, step: float, device: torch.device) -> Float[Tensor, "n d"]:
    """Waves of the column, then of the row, in half of the channels each; places lie `step` apart."""
    rows, columns = (waves(torch.arange(n, device=device) * step, dim // 2) for n in (h, w))
    return torch.cat([columns[None].expand(h, -1, -1), rows[:, None].expand(-1, w, -1)], -1).flatten(0, 1)
