"""One vector of numbers a sample or a frame, of length one if they are directions."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from models.heads.base import HEADS, Head, pool
from models.layout import Stage


@HEADS.register
class RegressionHead(Head):
    """(b, k), or (b, t, k) with `per_frame`; `unit` divides each vector by its length.

    Fewer token frames than frames are interpolated linearly in time.
    """

    def __init__(
        self, dims: Sequence[int], num_outputs: int, *, per_frame: bool = False, unit: bool = False
    ) -> None:
        super().__init__()
        self.per_frame, self.unit = per_frame, unit
        self.out = nn.Linear(dims[-1], num_outputs)

    def forward(self, stages: list[Stage], size: Sequence[int]) -> Tensor:
        y = self._frames(stages[-1], size) if self.per_frame else self.out(pool(stages[-1]))
        return F.normalize(y.float(), dim=-1) if self.unit else y

    def _frames(self, stage: Stage, size: Sequence[int]) -> Tensor:
        frames, *_ = stage.layout.need_grid(3, "per_frame")
        tokens = stage.tokens.unflatten(1, (frames, -1)).flatten(0, 1)
        mask = stage.layout.mask
        layout = stage.layout.with_(
            mask=None if mask is None else mask.unflatten(1, (frames, -1)).flatten(0, 1)
        )
        y = self.out(pool(Stage(tokens, layout))).unflatten(0, (-1, frames))
        if frames == size[0]:
            return y
        return F.interpolate(y.mT, size=size[0], mode="linear", align_corners=False).mT
