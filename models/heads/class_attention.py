"""Class scores from a token that reads the last stage by attention, and from the tokens themselves."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.heads.base import HEADS, Head
from models.layers.class_attention import ClassAttentionBlock
from models.layout import Stage


@HEADS.register
class ClassAttentionHead(Head):
    """(b, k) logits = W norm(c), c a learned token after `depth` blocks of class attention.

    With `every`, half of the largest score that any token gives of itself is added, W' norm(x).
    k = 0 gives norm(c).
    Paper: Touvron et al., 2021, arXiv:2103.17239; `every`, Jiang et al., 2021, arXiv:2104.10858. Departs from
        it: no loss for the scores of single tokens, which need labels of their own.
    """

    def __init__(
        self,
        dims: Sequence[int],
        num_outputs: int,
        *,
        depth: int = 2,
        head_dim: int = 32,
        ratio: float = 4.0,
        bias: bool = True,
        every: bool = False,
    ) -> None:
        super().__init__()
        dim = dims[-1]
        self.cls = nn.Parameter(torch.empty(1, 1, dim))
        nn.init.trunc_normal_(self.cls, std=0.02)
        self.blocks = nn.ModuleList(
            ClassAttentionBlock(dim, head_dim=head_dim, ratio=ratio, bias=bias) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(dim)
        self.out = nn.Linear(dim, num_outputs) if num_outputs else nn.Identity()
        self.each = nn.Linear(dim, num_outputs) if num_outputs and every else None

    def forward(self, stages: list[Stage], size: Sequence[int]) -> Tensor:
        x, layout, *_ = stages[-1]
        cls = self.cls.expand(x.shape[0], -1, -1)
        for block in self.blocks:
            cls = block(cls, x, layout.mask)
        scores = self.out(self.norm(cls[:, 0]))
        if self.each is None:
            return scores
        each = self.each(self.norm(x))
        if layout.mask is not None:
            each = each.masked_fill(~layout.mask[..., None], -torch.inf)
        return scores + each.amax(1) / 2
