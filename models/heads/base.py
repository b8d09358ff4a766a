"""What every head promises."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from models.layout import Stage
from models.registry import Registry


class Head(nn.Module, ABC):
    """Features to numbers, once per "sample", per "cell" (pixel, point) or per raw "value"."""

    per: ClassVar[str] = "sample"

    @abstractmethod
    def forward(self, stages: list[Stage], size: Sequence[int]) -> Tensor:
        """`size` is the shape of x after batch and channels."""


HEADS: Registry[Head] = Registry("models.heads")


def pool(stage: Stage) -> Float[Tensor, "b d"]:
    """Mean over the tokens that the mask keeps."""
    if stage.layout.mask is None:
        return stage.tokens.mean(1)
    weight = stage.layout.mask[..., None].to(stage.tokens.dtype)
    return (stage.tokens * weight).sum(1) / weight.sum(1).clamp(min=1)
