"""What every norm promises."""

from abc import ABC, abstractmethod

from torch import nn

from models.layout import Layout, Tokens
from models.registry import Registry


class Norm(nn.Module, ABC):
    """(b, n, d) -> (b, n, d). In eval mode, tokens that `layout.mask` hides change no other."""

    @abstractmethod
    def forward(self, x: Tokens, layout: Layout) -> Tokens: ...


NORMS: Registry[Norm] = Registry("models.norms")
