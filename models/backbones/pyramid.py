"""Stages of blocks with fewer, wider tokens from one to the next."""

from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import nn

from models.backbones.base import BACKBONES, Backbone, Mixers, position_for, ramp, run, stack
from models.layers.merging import CurvePooling, PatchMerging
from models.layout import Layout, Stage, Tokens

MERGES: dict[str, Callable[[int, int], nn.Module]] = {"patch": PatchMerging, "curve": CurvePooling}


@BACKBONES.register
class Pyramid(Backbone):
    """Stage = [merge,] blocks; `merge` joins patches of a raster or runs of points. The last stage is normed.

    Paper: Liu et al., 2021, arXiv:2103.14030, fig. 3. Departs from it: nothing, with window mixers.
    """

    def __init__(
        self,
        axes: int,
        mixers: Mixers,
        *,
        dims: Sequence[int],
        depths: Sequence[int],
        merge: str = "patch",
        mlp_ratio: float = 4.0,
        drop_path: float = 0.0,
        layer_scale: float | None = None,
        position: bool = False,
    ) -> None:
        super().__init__()
        if len(dims) != len(depths):
            raise ValueError(f"dims and depths must be as many, got {dims} and {depths}")
        if merge not in MERGES:
            raise LookupError(f"no merge {merge!r}; there are {sorted(MERGES)}")
        self.dims = tuple(dims)
        self.position = position_for(dims[0], axes, position)
        self.merges = nn.ModuleList(MERGES[merge](a, b) for a, b in pairwise(dims))
        rates = ramp(drop_path, sum(depths))
        starts = [sum(depths[:i]) for i in range(len(depths))]
        self.stages = nn.ModuleList(
            stack(
                dim,
                mixers,
                rates[first : first + depth],
                before=first,
                mlp_ratio=mlp_ratio,
                layer_scale=layer_scale,
            )
            for dim, depth, first in zip(dims, depths, starts, strict=True)
        )
        self.norm = nn.LayerNorm(dims[-1])

    def forward(self, x: Tokens, layout: Layout) -> list[Stage]:
        if self.position is not None:
            x = self.position(x, layout)
        stages: list[Stage] = []
        parent = None
        for i, blocks in enumerate(self.stages):
            if i:
                x, layout, step = self.merges[i - 1](x, layout)
                parent = step if parent is None or step is None else step.gather(1, parent)
            x = run(blocks, x, layout)
            stages.append(Stage(x, layout, parent))
        stages[-1] = stages[-1]._replace(tokens=self.norm(x))
        return stages
