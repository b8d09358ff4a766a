"""What every channel mixer promises."""

from abc import ABC, abstractmethod

from torch import nn

from models.layout import Layout, Tokens
from models.registry import Registry


class ChannelMixer(nn.Module, ABC):
    """(b, n, d) -> (b, n, d). Tokens that `layout.mask` hides change no other."""

    @abstractmethod
    def forward(self, x: Tokens, layout: Layout) -> Tokens: ...


CHANNELS: Registry[ChannelMixer] = Registry("models.channels")
