"""Images to tokens: one linear map of each square patch."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from models.layout import Layout, Tokens
from models.ops.windows import merge, pad_to_multiple, partition
from models.stems.base import STEMS, Side, Stem


@STEMS.register
class PatchStem(Stem):
    """(b, c, h, w) -> (b, n, d) on a grid (ceil(h / patch), ceil(w / patch)); zeros beyond the edge.

    `side.mask` hides tokens, (b, n).
    Paper: Dosovitskiy et al., 2020, arXiv:2010.11929, eq. 1, without the class token.
    """

    axes, shape = 2, "b c h w"

    def __init__(self, in_chans: int, dim: int, *, patch: int = 4, norm: bool = False) -> None:
        super().__init__()
        self.in_chans, self.patch = in_chans, patch
        self.cells, self.values = patch**2, in_chans * patch**2
        self.project = nn.Linear(self.values, dim)
        self.norm = nn.LayerNorm(dim) if norm else nn.Identity()

    def forward(self, x: Tensor, side: Side) -> tuple[Tokens, Layout]:
        side.only("patch", "mask")
        grid = tuple(-(-size // self.patch) for size in x.shape[2:])
        return self.norm(self.project(self.cut(x))), Layout(grid=grid, mask=side.mask)

    def cut(self, x: Tensor) -> Float[Tensor, "b n v"]:
        self.check(x)
        if x.shape[1] != self.in_chans:
            raise ValueError(f"x must have {self.in_chans} channels, got shape {tuple(x.shape)}")
        window = (self.patch,) * 2
        pieces = partition(pad_to_multiple(x.movedim(1, -1), window), window)  # (b, n, p * p, c)
        return pieces.mT.flatten(2)

    def join(self, values: Float[Tensor, "b n v"], size: Sequence[int]) -> Tensor:
        h, w = size
        padded = (h + -h % self.patch, w + -w % self.patch)
        pieces = values.unflatten(2, (-1, self.cells)).mT
        return merge(pieces, (self.patch,) * 2, padded)[:, :h, :w].movedim(-1, 1)
