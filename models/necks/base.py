"""What every neck promises."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from models.layout import Stage
from models.registry import Registry


class Neck(nn.Module, ABC):
    """Stages of a backbone -> stages of other strides, the finest first.

    Built as (dims of the backbone's stages, *, options).
    """

    finer: ClassVar[int]  # places of its first stage for one of the stem's, along each axis of an image
    dims: tuple[int, ...]  # channels of each stage that leaves

    @abstractmethod
    def forward(self, stages: list[Stage]) -> list[Stage]: ...


NECKS: Registry[Neck] = Registry("models.necks")


def on_stem(values: Tensor, grid: Sequence[int], finer: int, side: int) -> Tensor:
    """What a head says of a finer raster, as the stem wants it: of its own tokens.

    (b, n f f, k s s) on `grid` (..., f h, f w) -> (b, n, k f s f s): f = `finer` places along each side of a
    token, s = `side` cells along each side of a place.
    """
    *lead, h, w = grid
    y = values.unflatten(1, (math.prod(lead), h // finer, finer, w // finer, finer))
    y = y.unflatten(-1, (-1, side, side))  # (b, t, h, f, w, f, k, s, s)
    return y.permute(0, 1, 2, 4, 6, 3, 7, 5, 8).flatten(4).flatten(1, 3)
