"""Images to tokens: one linear map of each square patch."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from models.layout import Layout, Tokens
from models.stems._cells import cut_patches, join_patches
from models.stems.base import STEMS, Side, Stem


@STEMS.register
class PatchStem(Stem):
    """(b, c, h, w) -> (b, n, d) on a grid (ceil(h / patch), ceil(w / patch)); zeros beyond the edge.

    `side.mask` hides tokens, (b, n).
    Paper: Dosovitskiy et al., 2020, arXiv:2010.11929, eq. 1, without the class token.
    """

    axes, shape = 2, "b c h w"

    def __init__(
        self, in_chans: int, dim: int, *, patch: int = 4, norm: bool = False, eps: float = 1e-5
    ) -> None:
        super().__init__()
        self.in_chans, self.patch = in_chans, patch
        self.cells, self.values = patch**2, in_chans * patch**2
        self.project = nn.Linear(self.values, dim)
        self.norm = nn.LayerNorm(dim, eps=eps) if norm else nn.Identity()

    def forward(self, x: Tensor, side: Side) -> tuple[Tokens, Layout]:
        side.only("patch", "mask")
        grid = tuple(-(-size // self.patch) for size in x.shape[2:])
        return self.norm(self.project(self.cut(x))), Layout(grid=grid, mask=side.mask)

    def cut(self, x: Tensor) -> Float[Tensor, "b n v"]:
        self.check(x)
        if x.shape[1] != self.in_chans:
            raise ValueError(f"x must have {self.in_chans} channels, got shape {tuple(x.shape)}")
        return cut_patches(x, self.patch)

    def join(self, values: Float[Tensor, "b n v"], size: Sequence[int]) -> Tensor:
        return join_patches(values, self.patch, size)
