"""One vector of class scores a sample."""

from collections.abc import Sequence

from torch import Tensor, nn

from models.heads.base import HEADS, Head, pool
from models.layout import Stage


@HEADS.register
class ClassificationHead(Head):
    """(b, k) logits = W mean(tokens of the last stage); k = 0 gives the mean itself, (b, d)."""

    def __init__(self, dims: Sequence[int], num_outputs: int) -> None:
        super().__init__()
        self.out = nn.Linear(dims[-1], num_outputs) if num_outputs else nn.Identity()

    def forward(self, stages: list[Stage], size: Sequence[int]) -> Tensor:
        return self.out(pool(stages[-1]))
