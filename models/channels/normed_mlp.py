"""Two linear maps with a norm behind each: what networks without norms before their branches have."""

from models.channels.base import CHANNELS, ChannelMixer
from models.layers.convolution import Convolution
from models.layout import Layout, Tokens
from models.registry import Part


@CHANNELS.register
class NormedMlp(ChannelMixer):
    """y = norm(W2 act(norm(W1 x))), hidden width dim * ratio; batch norms fold into the maps.

    Paper: Liu et al., 2023, arXiv:2305.07027, sec. 3.1.
    """

    def __init__(self, dim: int, *, ratio: float = 2.0, act: str = "relu", norm: Part = "batch") -> None:
        super().__init__()
        hidden = int(dim * ratio)
        self.up = Convolution(dim, hidden, kernel=1, bias=False, norm=norm, act=act)
        self.down = Convolution(hidden, dim, kernel=1, bias=False, norm=norm)

    def forward(self, x: Tokens, layout: Layout) -> Tokens:
        row = layout.with_(grid=(x.shape[1], 1))  # one by one: where tokens lie does not matter
        return self.down(self.up(x, row), row)
