"""The inverted bottleneck: wide in the middle, where a depthwise convolution sees the neighbours."""

from jaxtyping import Float
from torch import Tensor, nn

from models.layers.convolution import Convolution, coarser
from models.layers.squeeze import SqueezeExcitation
from models.layout import Layout, Tokens
from models.norms.base import NORMS
from models.registry import Part


class InvertedBottleneck(nn.Module):
    """y = shrink(squeeze(filter(expand(norm(x))))), a norm and `act` behind expand and filter; no residual.

    Width `out` * ratio in the middle, out / 4 in the squeeze. `stride` 2 gives tokens on ceil(grid / 2),
    padded before and after as TensorFlow does: less before than after.
    Paper: Sandler et al., 2018, arXiv:1801.04381, fig. 4; with its norm first, Tu et al., 2022,
        arXiv:2204.01697, appendix A.1.
    """

    def __init__(
        self,
        dim: int,
        out: int,
        *,
        stride: int = 1,
        ratio: float = 4.0,
        act: str = "gelu_tanh",
        norm: Part = "batch",
    ) -> None:
        super().__init__()
        wide = int(out * ratio)
        self.norm = NORMS.build(norm, dim)
        self.expand = Convolution(dim, wide, kernel=1, bias=False, norm=norm, act=act)
        self.filter = Convolution(
            wide,
            wide,
            kernel=3,
            stride=stride,
            pad=(3 - stride) // 2,
            groups=wide,
            bias=False,
            norm=norm,
            act=act,
        )
        self.squeeze = SqueezeExcitation(wide, max(out // 4, 1), act="silu")
        self.shrink = Convolution(wide, out, kernel=1)

    def forward(self, x: Tokens, layout: Layout) -> Float[Tensor, "b m o"]:
        x = self.filter(self.expand(self.norm(x, layout), layout), layout)
        layout = coarser(layout, self.filter.stride)
        return self.shrink(self.squeeze(x, layout), layout)
