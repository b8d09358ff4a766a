"""One vector of class scores a sample."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.heads.base import HEADS, Head, pool
from models.layers.activations import activation
from models.layout import Layout, Stage
from models.norms.base import NORMS
from models.norms.batch import BatchNorm
from models.registry import Part

SOURCES = ("mean", "class")


@HEADS.register
class ClassificationHead(Head):
    """(b, k) logits = W f(norm(s)); k = 0 gives f(norm(s)), by default s itself.

    `source` s of the last stage: the "mean" of its tokens, or its "class" token. f is the identity, or a
    linear map as wide as s and `act` where that is named, as in MaxViT. With `project`, every token first
    passes a linear map of that width, a batch norm and SiLU, as in RMT.
    """

    def __init__(
        self,
        dims: Sequence[int],
        num_outputs: int,
        *,
        source: str = "mean",
        norm: Part | None = None,
        act: str | None = None,
        project: int | None = None,
    ) -> None:
        super().__init__()
        if source not in SOURCES:
            raise ValueError(f"source of a classification head must be one of {SOURCES}, got {source!r}")
        self.source = source
        self.project = None if project is None else Projection(dims[-1], project)
        width = dims[-1] if project is None else project
        self.norm = None if norm is None else NORMS.build(norm, width)
        self.hidden = None if act is None else nn.Linear(width, width)
        self.act = activation(act)
        self.out = nn.Linear(width, num_outputs) if num_outputs else nn.Identity()

    def forward(self, stages: list[Stage], size: Sequence[int]) -> Tensor:
        y = self._source(stages[-1] if self.project is None else self.project(stages[-1]))
        if self.norm is not None:
            y = self.norm(y[:, None], Layout())[:, 0]
        if self.hidden is not None:
            y = self.act(self.hidden(y))
        return self.out(y)

    @torch.no_grad()
    def fold_norm(self) -> None:
        """Fold a batch norm before the last map into it: the same in eval mode."""
        if (
            not isinstance(self.norm, BatchNorm)
            or self.hidden is not None
            or isinstance(self.out, nn.Identity)
        ):
            return
        scale, shift = self.norm.affine()
        self.out.bias.add_(self.out.weight @ shift)
        self.out.weight.mul_(scale)
        self.norm = None

    def _source(self, stage: Stage) -> Tensor:
        if self.source == "mean":
            return pool(stage)
        if stage.prefix is None:
            raise ValueError("this head reads the class token, the backbone has none; set its class_token")
        return stage.prefix[:, 0]


class Projection(nn.Module):
    """silu(batch_norm(W x)) of every token."""

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(dim, width), BatchNorm(width)

    def forward(self, stage: Stage) -> Stage:
        tokens = F.silu(self.norm(self.linear(stage.tokens), stage.layout))
        prefix = stage.prefix
        if prefix is not None:
            prefix = F.silu(self.norm(self.linear(prefix), Layout()))
        return stage._replace(tokens=tokens, prefix=prefix)
