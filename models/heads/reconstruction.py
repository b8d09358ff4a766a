"""The raw numbers of every token, predicted; and the token that stands where one was hidden."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.heads._fuse import Fuse
from models.heads.base import HEADS, Head
from models.layout import Mask, Stage, Tokens


@HEADS.register
class ReconstructionHead(Head):
    """(b, n, v): all stages fused on the stem's tokens, a linear map to the raw values of each.

    Paper: Xie et al., 2021, arXiv:2111.09886 (SimMIM): mask tokens in the encoder, a light decoder. Departs
    from it: the decoder sees all stages, so that tokens may be hidden one by one.
    """

    per = "value"

    def __init__(self, dims: Sequence[int], num_outputs: int, *, width: int = 64) -> None:
        super().__init__()
        self.fuse, self.out = Fuse(dims, width), nn.Linear(width, num_outputs)
        self.token = nn.Parameter(torch.empty(dims[0]))
        nn.init.normal_(self.token, std=0.02)

    def hide(self, x: Tokens, hidden: Mask) -> Tokens:
        """Replace the tokens where `hidden` is true."""
        return torch.where(hidden[..., None], self.token.to(x.dtype), x)

    def forward(self, stages: list[Stage], size: Sequence[int]) -> Tensor:
        return self.out(self.fuse(stages))
