"""What every position promises."""

from abc import ABC, abstractmethod

from torch import nn

from models.layout import Layout, Tokens
from models.registry import Registry


class Position(nn.Module, ABC):
    """Tells tokens where they lie: (b, n, d) -> (b, n, d), built as (dim, axes of the stem, *, options)."""

    @abstractmethod
    def forward(self, x: Tokens, layout: Layout) -> Tokens: ...


POSITIONS: Registry[Position] = Registry("models.positions")
