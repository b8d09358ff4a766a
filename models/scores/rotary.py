"""Rotary score: queries and keys turned by where they lie, so that their product sees the offset alone."""

import torch
import torch.nn.functional as F
from torch import Tensor

from models.layout import Layout
from models.ops.rotary import rotate
from models.scores.base import SCORES, Heads, Score, raster


@SCORES.register
class RotaryScore(Score):
    """q_i R(place_i), k_j R(place_j); channels of a head are shared out among the axes.

    Paper: Su et al., 2021, arXiv:2104.09864, eq. 15-16. Departs from it: frequencies are octaves apart.
    """

    def __init__(self, heads: int, axes: int) -> None:
        super().__init__()
        self.axes = axes

    def turn(self, q: Heads, k: Heads, layout: Layout) -> tuple[Heads, Heads]:
        grid = raster(layout, q.shape[2], self.axes)
        axes = [torch.arange(size, device=q.device, dtype=torch.float32) for size in grid]
        places = torch.stack(torch.meshgrid(*axes, indexing="ij")).flatten(1)
        places = F.pad(places, (layout.prefix, 0))
        return self._rotate(q, places), self._rotate(k, places)

    def _rotate(self, x: Heads, places: Tensor) -> Heads:
        parts = x.tensor_split(self.axes, dim=-1)
        turned = (rotate(p, a.expand(p.shape[:-1])) for p, a in zip(parts, places, strict=True))
        return torch.cat(list(turned), -1)
