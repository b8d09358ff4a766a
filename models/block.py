"""The one block: a token mixer and a channel mixer, each normalised before and added after."""

from torch import nn

from models.layers.mlp import Mlp
from models.layers.residual import DropPath, LayerScale
from models.layout import Layout, Tokens
from models.mixers.base import TokenMixer


class Block(nn.Module):
    """x += mixer(norm(x));  x += mlp(norm(x)).

    Paper: Yu et al., 2021, arXiv:2111.11418, eq. 2-3, with LayerNorm.
    """

    def __init__(
        self,
        dim: int,
        mixer: TokenMixer,
        *,
        mlp_ratio: float = 4.0,
        drop_path: float = 0.0,
        layer_scale: float | None = None,
    ) -> None:
        super().__init__()
        self.norm1, self.mixer = nn.LayerNorm(dim), mixer
        self.norm2, self.mlp = nn.LayerNorm(dim), Mlp(dim, ratio=mlp_ratio)
        self.scale1, self.scale2 = (
            nn.Identity() if layer_scale is None else LayerScale(dim, layer_scale) for _ in range(2)
        )
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tokens, layout: Layout) -> Tokens:
        x = x + self.drop_path(self.scale1(self.mixer(self.norm1(x), layout)))
        return x + self.drop_path(self.scale2(self.mlp(self.norm2(x))))
