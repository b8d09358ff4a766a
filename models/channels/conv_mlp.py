"""The channel mixer with a depthwise convolution in its middle, which sees the neighbours."""

from torch import nn

from models.channels.base import CHANNELS, ChannelMixer
from models.layers.activations import activation
from models.layers.convolution import Convolution
from models.layout import Layout, Tokens


@CHANNELS.register
class ConvMlp(ChannelMixer):
    """y = W2 (h + dwconv(h)),  h = act(W1 x), hidden width dim * ratio.

    With `act_last`, y = W2 act(u + dwconv(u)),  u = W1 x; without `skip`, y = W2 act(dwconv(u)) then.

    Shape: (b, n, d) -> (b, n, d), n = prod(layout.grid) of two axes.
    Paper: Fan et al., 2023, arXiv:2309.11523, its code; `act_last`, Xia et al., 2023, arXiv:2309.01430;
        without `skip`, Wang et al., 2021, arXiv:2106.13797, sec. 3.2.
    """

    def __init__(
        self, dim: int, *, ratio: float = 4.0, act: str = "gelu", act_last: bool = False, skip: bool = True
    ) -> None:
        super().__init__()
        hidden = int(dim * ratio)
        self.act_last, self.skip = act_last, skip
        self.up, self.act, self.down = nn.Linear(dim, hidden), activation(act), nn.Linear(hidden, dim)
        self.local = Convolution(hidden, hidden, groups=hidden)

    def forward(self, x: Tokens, layout: Layout) -> Tokens:
        h = self.up(x)
        if not self.act_last:
            h = self.act(h)
        h = h + self.local(h, layout) if self.skip else self.local(h, layout)
        return self.down(self.act(h) if self.act_last else h)
