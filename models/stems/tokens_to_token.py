"""Images to tokens in three soft splits, with a layer of attention between each two."""

from collections.abc import Sequence

from jaxtyping import Bool, Float
from torch import Tensor, nn

from models.layers.narrowing import Narrowing
from models.layout import Layout, Mask, Tokens
from models.ops.soft_split import soft_split
from models.stems._cells import cut_patches, join_patches, only_real
from models.stems.base import STEMS, Side, Stem

SPLITS = ((7, 4), (3, 2), (3, 2))  # kernel and stride of each
ATTENTIONS = ("performer", "transformer")


@STEMS.register
class TokensToTokenStem(Stem):
    """(b, c, h, w) -> (b, n, d) on (ceil(h / 16), ceil(w / 16)).

    Split, attend, split, attend, split, project. A soft split makes one token of 7 x 7 pixels, later of 3 x 3
    tokens, which overlap; the attention narrows it to `width` channels and the tokens become a raster again.
    `side.mask` hides tokens, (b, n).
    Paper: Yuan et al., 2021, arXiv:2101.11986, sec. 3.1. Departs from it: nothing.
    """

    axes, shape = 2, "b c h w"

    def __init__(self, in_chans: int, dim: int, *, attention: str = "performer", width: int = 64) -> None:
        super().__init__()
        if attention not in ATTENTIONS:
            raise ValueError(f"attention of this stem must be one of {ATTENTIONS}, got {attention!r}")
        features = width // 2 if attention == "performer" else 0
        self.in_chans, self.patch = in_chans, 16
        self.cells, self.values = self.patch**2, in_chans * self.patch**2
        self.layers = nn.ModuleList(
            Narrowing(given * kernel**2, width, features=features)
            for given, (kernel, _) in zip((in_chans, width), SPLITS, strict=False)
        )
        self.project = nn.Linear(width * SPLITS[-1][0] ** 2, dim)

    def forward(self, x: Tensor, side: Side) -> tuple[Tokens, Layout]:
        side.only("tokens_to_token", "mask")
        self.check(x)
        tokens = only_real(x, side.mask, self.patch).flatten(2).mT
        grid, step = (x.shape[2], x.shape[3]), self.patch
        for i, (kernel, stride) in enumerate(SPLITS):
            tokens, grid = soft_split(tokens, grid, kernel=kernel, stride=stride)
            step //= stride
            if i < len(self.layers):
                mask = finer(side.mask, grid, step)
                tokens = self.layers[i](tokens, mask)
                if mask is not None:
                    tokens = tokens.masked_fill(~mask[..., None], 0)
        return self.project(tokens), Layout(grid=grid, mask=side.mask)

    def check(self, x: Tensor) -> None:
        super().check(x)
        if x.shape[1] != self.in_chans:
            raise ValueError(f"x must have {self.in_chans} channels, got shape {tuple(x.shape)}")

    def cut(self, x: Tensor) -> Float[Tensor, "b n v"]:
        self.check(x)
        return cut_patches(x, self.patch)

    def join(self, values: Float[Tensor, "b n v"], size: Sequence[int]) -> Tensor:
        return join_patches(values, self.patch, size)


def finer(mask: Mask | None, grid: tuple[int, int], step: int) -> Bool[Tensor, "b m"] | None:
    """The mask of the last tokens on an earlier raster, where each was step x step."""
    if mask is None:
        return None
    h, w = grid
    raster = mask.unflatten(1, (-(-h // step), -(-w // step)))
    return raster.repeat_interleave(step, 1).repeat_interleave(step, 2)[:, :h, :w].flatten(1)
