"""Stages of blocks with fewer, wider tokens from one to the next."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from models.backbones.base import BACKBONES, Backbone, Mixers, by_stage, position_for, ramp, run, stack
from models.layout import Layout, Parent, Stage, Tokens
from models.merges.base import MERGES
from models.norms.base import NORMS
from models.positions.base import POSITIONS
from models.registry import Part


@BACKBONES.register
class Pyramid(Backbone):
    """Stage = [merge,] blocks; `merge` joins patches of a raster or runs of points. The last stage is normed.

    `positions` has one for each stage, or None. With `class_token` one joins before the last stage and leaves
    as its `stage.prefix`.
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
        positions: Sequence[Part | None] = (),
        class_token: bool = False,
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
        if positions and len(positions) != len(dims):
            raise ValueError(f"positions must be as many as stages, got {len(positions)} for {len(dims)}")
        self.positions = nn.ModuleDict(
            {
                str(i): POSITIONS.build(part, dim, axes)
                for i, (part, dim) in enumerate(zip(positions, dims, strict=False))
                if part is not None
            }
        )
        self.cls = nn.Parameter(torch.empty(1, 1, dims[-1])) if class_token else None
        if self.cls is not None:
            nn.init.trunc_normal_(self.cls, std=0.02)
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
            if str(i) in self.positions:
                x = self.positions[str(i)](x, layout)
            if self.cls is not None and i == len(self.stages) - 1:
                break
            x = run(blocks, x, layout)
            stages.append(Stage(x, layout, parent))
        if self.cls is not None:
            return [*stages, self._with_class(x, layout, parent)]
        if self.norm is not None:
            stages[-1] = stages[-1]._replace(tokens=self.norm(x, layout))
        return stages

    def _with_class(self, x: Tokens, layout: Layout, parent: Parent | None) -> Stage:
        """The last stage, with a class token before its raster."""
        assert self.cls is not None
        inner = layout.with_(prefix=1)
        if layout.mask is not None:
            inner = inner.with_(mask=F.pad(layout.mask, (1, 0), value=True))
        x = run(self.stages[-1], torch.cat([self.cls.expand(len(x), -1, -1), x], 1), inner)
        if self.norm is not None:
            x = self.norm(x, inner)
        return Stage(x[:, 1:], layout, parent, prefix=x[:, :1])
