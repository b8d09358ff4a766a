"""The one block: a token mixer and a channel mixer, each a residual branch with its norm."""

from torch import nn

from models.channels.base import CHANNELS
from models.layers.residual import DropPath, LayerScale
from models.layout import Layout, Tokens
from models.mixers.base import TokenMixer
from models.norms.base import NORMS
from models.positions.base import POSITIONS
from models.registry import Part

ORDERS = ("pre", "post", "res_post", "single")


class Block(nn.Module):
    """x = position(x);  x += mixer(norm(x));  x += channel(norm(x)); any of the three may be missing.

    `channel_position` is a second position, before the channel mixer.

    `order` says where the norm stands: "pre", x + f(norm(x)); "post", norm(x + f(x)) as in the original
    transformer; "res_post", x + norm(f(x)) as in Swin v2; "single", x + channel(norm(mixer(norm(x)))), one
    residual around both, as in GFNet. `norm=None` leaves norms to the parts themselves.
    Paper: Yu et al., 2021, arXiv:2111.11418, eq. 2-3.
    """

    def __init__(
        self,
        dim: int,
        axes: int,
        mixer: TokenMixer | None,
        *,
        channel: Part | None = "mlp",
        norm: Part | None = "layer",
        order: str = "pre",
        position: Part | None = None,
        channel_position: Part | None = None,
        layer_scale: float | None = None,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        if order not in ORDERS:
            raise ValueError(f"order of a block must be one of {ORDERS}, got {order!r}")
        if order == "single" and (mixer is None or channel is None):
            raise ValueError("a block with a single residual needs a mixer and a channel mixer")
        self.order = order
        self.position = None if position is None else POSITIONS.build(position, dim, axes)
        self.channel_position = (
            None if channel_position is None else POSITIONS.build(channel_position, dim, axes)
        )
        self.mixer = mixer
        self.channel = None if channel is None else CHANNELS.build(channel, dim)
        branches = (self.mixer, self.channel)
        self.norm1, self.norm2 = (
            None if branch is None or norm is None else NORMS.build(norm, dim) for branch in branches
        )
        self.scale1, self.scale2 = (
            None if branch is None or layer_scale is None else LayerScale(dim, layer_scale)
            for branch in ((None, channel) if order == "single" else branches)
        )
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tokens, layout: Layout) -> Tokens:
        if self.position is not None:
            x = self.position(x, layout)
        if self.order == "single":
            return self._add_both(x, layout)
        if self.mixer is not None:
            x = self._add(x, layout, self.mixer, self.norm1, self.scale1)
        if self.channel_position is not None:
            x = self.channel_position(x, layout)
        if self.channel is not None:
            x = self._add(x, layout, self.channel, self.norm2, self.scale2)
        return x

    def _add(
        self, x: Tokens, layout: Layout, branch: nn.Module, norm: nn.Module | None, scale: nn.Module | None
    ) -> Tokens:
        y = branch(norm(x, layout) if norm is not None and self.order == "pre" else x, layout)
        if norm is not None and self.order == "res_post":
            y = norm(y, layout)
        if scale is not None:
            y = scale(y)
        x = x + self.drop_path(y)
        return norm(x, layout) if norm is not None and self.order == "post" else x

    def _add_both(self, x: Tokens, layout: Layout) -> Tokens:
        assert self.mixer is not None
        assert self.channel is not None
        y = self.mixer(x if self.norm1 is None else self.norm1(x, layout), layout)
        y = self.channel(y if self.norm2 is None else self.norm2(y, layout), layout)
        return x + self.drop_path(y if self.scale2 is None else self.scale2(y))
