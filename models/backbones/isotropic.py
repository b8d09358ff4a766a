"""One stage, one width: the columnar network of ViT."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from models.backbones.base import BACKBONES, Backbone, Mixers, by_stage, position_for, ramp, stack
from models.layout import Layout, Stage, Tokens
from models.norms.base import NORMS
from models.registry import Part

PLACES = (None, "first", "last")


@BACKBONES.register
class Isotropic(Backbone):
    """Position, `depth` blocks, norm. A class token, if any, joins before block `class_from`.

    `class_token` is its place: "first", before the raster, or "last", where causal mixers need it; mixers
    that need a raster find none in the layout then. It leaves as `stage.prefix`: tokens fill the raster.
    Paper: Dosovitskiy et al., 2020, arXiv:2010.11929, eq. 1-4.
    """

    def __init__(
        self,
        axes: int,
        mixers: Mixers,
        block: Mapping[str, Any],
        *,
        dim: int,
        depth: int,
        drop_path: float = 0.0,
        position: Part | None = "fourier",
        norm: Part | None = "layer",
        class_token: str | None = None,
        class_from: int = 0,
    ) -> None:
        super().__init__()
        if class_token not in PLACES:
            raise ValueError(f"class_token must be one of {PLACES}, got {class_token!r}")
        self.dims = (dim,)
        self.class_token, self.class_from = class_token, class_from
        self.position = position_for(position, dim, axes)
        ((turn, _),) = by_stage(mixers, [depth])
        self.blocks = stack(dim, axes, turn, block, ramp(drop_path, depth))
        self.norm = None if norm is None else NORMS.build(norm, dim)
        self.cls = None if class_token is None else nn.Parameter(torch.empty(1, 1, dim))
        if self.cls is not None:
            nn.init.trunc_normal_(self.cls, std=0.02)

    def forward(self, x: Tokens, layout: Layout) -> list[Stage]:
        inner = layout
        if self.position is not None:
            x = self.position(x, layout)
        for i, block in enumerate(self.blocks):
            if self.cls is not None and i == self.class_from:
                x, inner = self._join(x, layout)
            x = block(x, inner)
        if self.norm is not None:
            x = self.norm(x, inner)
        if self.cls is None:
            return [Stage(x, layout)]
        if self.class_token == "first":
            return [Stage(x[:, 1:], layout, prefix=x[:, :1])]
        return [Stage(x[:, :-1], layout, prefix=x[:, -1:])]

    def _join(self, x: Tokens, layout: Layout) -> tuple[Float[Tensor, "b m d"], Layout]:
        assert self.cls is not None
        cls = self.cls.expand(x.shape[0], -1, -1)
        mask = layout.mask
        if self.class_token == "first":
            mask = None if mask is None else F.pad(mask, (1, 0), value=True)
            return torch.cat([cls, x], 1), layout.with_(prefix=1, mask=mask)
        mask = None if mask is None else F.pad(mask, (0, 1), value=True)
        return torch.cat([x, cls], 1), layout.with_(grid=None, coords=None, mask=mask)
