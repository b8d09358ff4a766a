"""One stage, one width: the columnar network of ViT."""

from torch import nn

from models.backbones.base import BACKBONES, Backbone, Mixers, position_for, ramp, run, stack
from models.layout import Layout, Stage, Tokens


@BACKBONES.register
class Isotropic(Backbone):
    """Position, `depth` blocks, norm. Paper: Dosovitskiy et al., 2020, arXiv:2010.11929, eq. 1-4."""

    def __init__(
        self,
        axes: int,
        mixers: Mixers,
        *,
        dim: int,
        depth: int,
        mlp_ratio: float = 4.0,
        drop_path: float = 0.0,
        layer_scale: float | None = None,
        position: bool = True,
    ) -> None:
        super().__init__()
        self.dims = (dim,)
        self.position = position_for(dim, axes, position)
        self.blocks = stack(dim, mixers, ramp(drop_path, depth), mlp_ratio=mlp_ratio, layer_scale=layer_scale)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tokens, layout: Layout) -> list[Stage]:
        if self.position is not None:
            x = self.position(x, layout)
        return [Stage(self.norm(run(self.blocks, x, layout)), layout)]
