"""The channel mixer of the original transformer: two linear maps with a GELU between."""

from torch import nn

from models.channels.base import CHANNELS, ChannelMixer
from models.layers.activations import activation
from models.layout import Layout, Tokens


@CHANNELS.register
class Mlp(ChannelMixer):
    """y = W2 act(W1 x), hidden width dim * ratio."""

    def __init__(self, dim: int, *, ratio: float = 4.0, act: str = "gelu") -> None:
        super().__init__()
        hidden = int(dim * ratio)
        self.up, self.act, self.down = nn.Linear(dim, hidden), activation(act), nn.Linear(hidden, dim)

    def forward(self, x: Tokens, layout: Layout) -> Tokens:
        return self.down(self.act(self.up(x)))
