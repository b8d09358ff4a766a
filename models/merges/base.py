"""What every merge promises."""

from abc import ABC, abstractmethod

from torch import nn

from models.layout import Layout, Stage, Tokens
from models.registry import Registry


class Merge(nn.Module, ABC):
    """Tokens of one stage -> fewer tokens of the next, with their layout; built as (dim, out, *, options)."""

    @abstractmethod
    def forward(self, x: Tokens, layout: Layout) -> Stage: ...


MERGES: Registry[Merge] = Registry("models.merges")
