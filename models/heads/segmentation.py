"""Class scores for every pixel or point."""

from collections.abc import Sequence

from torch import Tensor, nn

from models.heads._fuse import Fuse
from models.heads.base import HEADS, Head
from models.layout import Stage


@HEADS.register
class SegmentationHead(Head):
    """(b, n, k * cells): all stages fused on the stem's tokens, a linear map to the cells of each."""

    per = "cell"

    def __init__(self, dims: Sequence[int], num_outputs: int, *, width: int = 64) -> None:
        super().__init__()
        self.fuse, self.out = Fuse(dims, width), nn.Linear(width, num_outputs)

    def forward(self, stages: list[Stage], size: Sequence[int]) -> Tensor:
        return self.out(self.fuse(stages))
