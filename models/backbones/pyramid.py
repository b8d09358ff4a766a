"""Stages of blocks with fewer, wider tokens from one to the next."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from torch import nn

from models.backbones.base import BACKBONES, Backbone, Mixers, by_stage, position_for, ramp, run, stack
from models.layout import Layout, Stage, Tokens
from models.merges.base import MERGES
from models.norms.base import NORMS
from models.registry import Part


@BACKBONES.register
class Pyramid(Backbone):
    """Stage = [merge,] blocks; `merge` joins patches of a raster or runs of points. The last stage is normed.

    Paper: Liu et al., 2021, arXiv:2103.14030, fig. 3. Departs from it: nothing, with window mixers.
    """

    def __init__(
        self,
        axes: int,
        mixers: Mixers,
        block: Mapping[str, Any],
        *,
        dims: Sequence[int],
        depths: Sequence[int],
        merge: Part = "patch",
        drop_path: float = 0.0,
        position: Part | None = None,
        norm: Part | None = "layer",
    ) -> None:
        super().__init__()
        if len(dims) != len(depths):
            raise ValueError(f"dims and depths must be as many, got {dims} and {depths}")
        self.dims = tuple(dims)
        self.position = position_for(position, dims[0], axes)
        self.merges = nn.ModuleList(MERGES.build(merge, a, b) for a, b in pairwise(dims))
        rates = ramp(drop_path, sum(depths))
        starts = [sum(depths[:i]) for i in range(len(depths))]
        self.stages = nn.ModuleList(
            stack(dim, axes, turn, block, rates[first : first + depth], before=before)
            for dim, depth, first, (turn, before) in zip(
                dims, depths, starts, by_stage(mixers, depths), strict=True
            )
        )
        self.norm = None if norm is None else NORMS.build(norm, dims[-1])

    def forward(self, x: Tokens, layout: Layout) -> list[Stage]:
        if self.position is not None:
            x = self.position(x, layout)
        stages: list[Stage] = []
        parent = None
        for i, blocks in enumerate(self.stages):
            if i:
                x, layout, step, _ = self.merges[i - 1](x, layout)
                parent = step if parent is None or step is None else step.gather(1, parent)
            x = run(blocks, x, layout)
            stages.append(Stage(x, layout, parent))
        if self.norm is not None:
            stages[-1] = stages[-1]._replace(tokens=self.norm(x, layout))
        return stages
